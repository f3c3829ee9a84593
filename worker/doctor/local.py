"""What can be seen on this machine: names of settings, keys and files."""

import difflib
import ssl
import stat
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from worker import probes
from worker.doctor.check import Check, failed, from_finding, ok, skipped, warning
from worker.doctor.tls import judge_expiry
from worker.environment import Environment
from worker.settings import SETTINGS, Settings

# Keys


def check_keys(settings: Settings) -> Iterator[Check]:
    """A signature of each key tried, and what our public half looks like on the dashboard."""
    account = settings.accounts.get(settings.client_id)
    if not account and settings.client_id not in settings.public_keys:
        yield skipped("keys", "there are none that can be used")
        return
    finding = probes.try_keys(settings)
    if finding is not None:
        yield from_finding(finding)
        return
    if account:
        public = account.private_key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digest = sha256(der).hexdigest()[:16]
        yield ok(
            "keys",
            f"ours: {public.key_size} bits, version {account.key_version}, SHA-256 of the public"
            f" half {digest}...; it signs, and the gateway's refuse what they did not sign",
        )
    else:
        yield ok("keys", "the gateway's refuse what they did not sign")


# Names

#: How like a name must be to one of ours. A .env is likely ours alone, the environment is not.
NEAR_IN_FILE, NEAR_IN_ENVIRONMENT = 0.8, 0.9


def check_names(environ: Mapping[str, str], dotenv: Path | None) -> Iterator[Check]:
    """Names that are nearly one of ours: nobody reads them, so the default holds unseen."""
    known = {entry.name for entry in SETTINGS} | {f"{e.name}_FILE" for e in SETTINGS if e.secret}
    _, around, in_file = Environment(environ, dotenv, None).layers
    for layer, like in ((around, NEAR_IN_ENVIRONMENT), (in_file, NEAR_IN_FILE)):
        for name in sorted(layer.keys() - known):
            for near in difflib.get_close_matches(name, known, n=1, cutoff=like):
                seen = f"{name} is no setting, and is not read"
                yield warning("names", seen, f"call it {near}, if that is meant")


# Files


def check_files(
    settings: Settings, environ: Mapping[str, str], dotenv: Path | None
) -> Iterator[Check]:
    """Who may read and change the files that hold secrets, and the receiver's certificate."""
    files = list(dict.fromkeys(_secret_files(settings, environ, dotenv)))
    found = [check for name, path in files if (check := _check_mode(name, path))]
    yield from found
    if files and not found:
        yield ok("files", f"secrets in {len(files)} files that others may not read")
    if settings.tls_cert_file and settings.tls_key_file:
        yield _check_certificate(settings.tls_cert_file, settings.tls_key_file)


def _secret_files(
    settings: Settings, environ: Mapping[str, str], dotenv: Path | None
) -> Iterator[tuple[str, Path]]:
    names = {f"{entry.name}_FILE" for entry in SETTINGS if entry.secret}
    *above, in_dotenv = Environment(environ, dotenv, None).layers
    for layer in (*above, in_dotenv):
        yield from ((name, Path(layer[name])) for name in sorted(names & layer.keys()))
    if dotenv is not None and any(entry.secret and entry.name in in_dotenv for entry in SETTINGS):
        yield f"the settings, {dotenv}", dotenv
    if settings.tls_key_file:
        yield "TLS_KEY_FILE", settings.tls_key_file
    for file in settings.files:
        yield file.name if file.secret else NO_SECRET, file.path


NO_SECRET = "ALIPAY_ACCOUNTS_FILE, which holds no secret"
#: Anybody may read them, if only nobody changes them.
PUBLIC = ("ALIPAY_PUBLIC_KEYS_FILE", NO_SECRET)


def _check_mode(name: str, path: Path) -> Check | None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return None  # told with the settings
    if mode & stat.S_IWOTH:
        seen = f"everybody on this machine may change the file of {name}"
        return failed("files", seen, f"chmod 600 {path}")
    if mode & stat.S_IROTH and name not in PUBLIC and _may_be_entered(path.absolute().parent):
        seen = f"everybody on this machine may read the file of {name}"
        return warning("files", seen, f"chmod 640 {path}, owned by the reconciler's user")
    return None


def _may_be_entered(folder: Path) -> bool:
    """By everybody. make-secrets closes the folder and opens the files, for containers' users."""
    return bool(folder.stat().st_mode & stat.S_IXOTH)


def _check_certificate(cert: Path, key: Path) -> Check:
    what = "certificate"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        first = x509.load_pem_x509_certificate(cert.read_bytes())
    except ssl.SSLError as fault:
        if "KEY_VALUES_MISMATCH" in str(fault):
            seen = "TLS_KEY_FILE is not the key of TLS_CERT_FILE"
            return failed(what, seen, "give the certificate and the key that were made together")
        return failed(what, "TLS_CERT_FILE or TLS_KEY_FILE is no PEM file", "give PEM files")
    except (OSError, ValueError) as fault:
        return failed(what, f"TLS_CERT_FILE cannot be read ({type(fault).__name__})", "mend it")
    return judge_expiry(what, first.not_valid_after_utc, "the receiver's certificate")
