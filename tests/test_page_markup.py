"""What is text stays text: it never becomes HTML, whatever it holds and wherever it is put."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker import secrecy
from worker.page.markup import Html, join, tag, text

HOSTILE = (
    "<script>alert(1)</script>",
    "</title></style><img src=x onerror=alert(1)>",
    "\"><svg onload='x'>",
    "' autofocus onfocus=alert(1) '",
    "&lt;b&gt; &amp; &#60;",
    "javascript:alert(1)",
    "<!--",
    "]]>",
)


class Read(HTMLParser):
    """What a browser would make of it: elements with their attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_from_outside_is_no_html(hostile: str) -> None:
    seen = Read(tag("p", hostile, title=hostile))
    assert seen.elements == [("p", {"title": hostile})]
    assert seen.said == hostile


@settings(max_examples=40)
@given(st.text(), st.text())
def test_whatever_the_text_is_it_makes_no_element(child: str, attribute: str) -> None:
    seen = Read(tag("div", tag("b", [child, None, [child]]), data_x=attribute))
    assert [name for name, _ in seen.elements] == ["div", "b"]
    tag("p", child).encode()  # and it can be sent


def test_what_is_html_already_is_not_escaped_again() -> None:
    assert tag("p", tag("b", "1 < 2"), " & ", 3) == "<p><b>1 &lt; 2</b> &amp; 3</p>"
    assert join("<", Html("<br />"), None, [">"]) == "&lt;<br />&gt;"


@pytest.mark.parametrize(
    ("value", "written"),
    [(True, "<p hidden></p>"), (None, "<p></p>"), (False, "<p></p>"), (0, '<p hidden="0"></p>')],
)
def test_an_attribute_is_there_with_a_value_or_not_at_all(
    value: bool | int | None, written: str
) -> None:
    assert tag("p", hidden=value) == written


def test_names_of_attributes_are_written_as_html_has_them() -> None:
    assert tag("label", class_="a", for_="b", aria_label="c", name="d") == (
        '<label class="a" for="b" aria-label="c" name="d"></label>'
    )


def test_an_empty_element_ends_itself() -> None:
    """In a drawing one that does not takes what follows for its own."""
    assert tag("g", tag("rect", x=1), tag("rect", x=2)) == ('<g><rect x="1" /><rect x="2" /></g>')


@pytest.mark.parametrize("sign", ["\u202e", "\u200b", "\x00", "\x1b", "\ud800", "\u2066"])
def test_what_would_hide_or_reorder_text_is_written_out(sign: str) -> None:
    assert text(f"a{sign}b").startswith("a\\u")


def test_a_secret_of_this_process_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrecy, "_heads", {})
    secrecy.learn("a-secret-of-ours")
    assert "a-secret" not in tag("p", "it is a-secret-of-ours", title="a-secret-of-ours")
