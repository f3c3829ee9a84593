"""The page in a real browser: nothing is cut off, nothing complains, nothing is loaded."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from tests.chromium import Tab, chromium
from tests.fakes import CLIENT
from tests.pages import fill, payment, settings_for, showing
from tests.servers import put
from worker import connect
from worker.keys import Keys
from worker.replies import now_of

pytestmark = pytest.mark.once  # what is under test is not Python

SCREENS = [(400, "light"), (400, "dark"), (1280, "light"), (1280, "dark")]
LONG = "order_with_a_very_long_name_that_uses_all_of_its_64_characters_x"
PAGES = {
    "overview": "/",
    "payment": f"/payments/{CLIENT}:{LONG}",
    "damaged": f"/payments/{CLIENT}:damaged",
}

#: Text whose contrast with what is behind it is less than WCAG AA asks for, and how much it is.
FAINT = """
(() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a = 1] = rgb(getComputedStyle(e).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgb(style.color)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) faint.push(`${element.tagName} ${element.className} ${ratio}`);
  }
  return faint.join("; ");
})()
"""

#: How far one could scroll to the side, in pixels.
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

#: What sticks out of the screen to the right, which nobody sees.
CUT_OFF = """
[...document.querySelectorAll("body *")]
  .filter(e => e.checkVisibility() && !e.closest(".hidden, .skip"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => `${e.tagName} ${e.className}`).join("; ")
"""


@dataclass
class Browser:
    tab: Tab
    url: str

    async def open(self, page: str) -> None:
        await self.tab.open(self.url + PAGES[page])


@pytest.fixture
async def client(redis: Redis, redis_url: str) -> AsyncIterator[Redis]:
    made = connect.client(redis_url)
    yield made
    await made.aclose()


@pytest.fixture
async def browser(client: Redis, prefix: str) -> AsyncIterator[Browser]:
    """A tab, and the page of a busy day."""
    async with chromium() as tab:
        await fill(client, Keys(prefix))
        async with showing(client, settings_for(prefix)) as url:
            yield Browser(tab, url)


async def test_it_fits_the_screen_and_can_be_read_in_light_and_dark(browser: Browser) -> None:
    backgrounds = set()
    for page in PAGES:
        for width, scheme in SCREENS:
            where = (page, width, scheme)
            await browser.tab.look(width, scheme)
            await browser.open(page)
            assert await browser.tab.evaluate("innerWidth") == width, where
            assert await browser.tab.evaluate(TOO_WIDE) == 0, where
            assert await browser.tab.evaluate(CUT_OFF) == "", where
            assert await browser.tab.evaluate(FAINT) == "", where
            colour = "getComputedStyle(document.body).backgroundColor"
            backgrounds.add((scheme, await browser.tab.evaluate(colour)))
            assert len(await browser.tab.picture()) > 10_000, where
    assert len(backgrounds) == len({colour for _, colour in backgrounds}) == 2
    await browser.tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.tab.complaints == []
    assert {request.startswith(browser.url) for request in browser.tab.requests} == {True}


async def test_the_numbers_behind_the_chart_fit_a_narrow_screen(browser: Browser) -> None:
    await browser.tab.look(400, "light")
    for page in ("overview", "payment"):
        await browser.open(page)
        await browser.tab.evaluate(
            "document.querySelectorAll('details').forEach(d => d.open = true)"
        )
        assert await browser.tab.evaluate(TOO_WIDE) == 0, page
        assert await browser.tab.evaluate(CUT_OFF) == "", page


async def test_one_finds_a_payment_by_typing_its_id(browser: Browser) -> None:
    await browser.tab.look(1280, "light")
    await browser.open("overview")
    await browser.tab.evaluate("document.querySelector('input').focus()")
    await browser.tab.call("Input.insertText", text="refund-me")
    await browser.tab.submit()
    assert await browser.tab.evaluate("location.pathname") == f"/payments/{CLIENT}:refund-me"
    assert "Refund it on the gateway's dashboard." in await browser.tab.evaluate(
        "document.body.innerText"
    )


async def test_what_has_the_keyboard_is_marked(browser: Browser) -> None:
    await browser.tab.look(400, "dark")
    await browser.open("overview")
    for _ in range(6):
        key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        await browser.tab.call("Input.dispatchKeyEvent", type="keyDown", **key)
        await browser.tab.call("Input.dispatchKeyEvent", type="keyUp", **key)
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await browser.tab.evaluate(outline) == "solid"


async def test_a_script_in_the_page_would_not_run(
    browser: Browser, client: Redis, prefix: str
) -> None:
    """Should one ever get through the escaping, the page's policy still stops it."""
    await browser.open("overview")
    await browser.tab.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.ran = 1'}))"
    )
    assert await browser.tab.evaluate("window.ran === undefined")
    assert "Content Security Policy" in browser.tab.complaints[0]


async def test_names_made_to_do_harm_do_none(browser: Browser, client: Redis, prefix: str) -> None:
    now, name = await now_of(client), "<img src=x onerror=\"document.title='taken'\">"
    async with client.pipeline() as pipe:
        put(pipe, Keys(prefix), payment(name, now, 10**7, reference=name))
        await pipe.execute()
    await browser.open("overview")
    assert name in await browser.tab.evaluate("document.body.innerText")
    await browser.tab.evaluate("document.querySelector('a[href*=img]').click()")
    assert await browser.tab.evaluate("document.images.length") == 0
    assert browser.tab.complaints == []
