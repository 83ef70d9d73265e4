"""Framing: bodies whose length is told wrongly, twice, or in chunks that lie; several requests in one go."""

from __future__ import annotations

from tests.drills.hostile.case import GOOD, Case, case, chunk, chunked, get, post, unframed

SMUGGLED = get(b"/smuggled")
END = b"0\r\n\r\n"

LENGTHS: list[Case] = [
    *(
        case(f"the length {value[:12]!r}", 400, unframed(b"Content-Length: " + value) + GOOD)
        for value in (
            b"-1",
            b"+5",
            b"5_4",
            b"0x36",
            b"5 4",
            b"5,4",
            b"54;",
            b"NaN",
            b"1e400",
            b"54.0",
            b"",
            "٥٤".encode(),
            b"9" * 5000,
        )
    ),
    case("a length of 20 digits", 413, unframed(b"Content-Length: 99999999999999999999") + GOOD),
    case("a length with zeros before it", 200, unframed(b"Content-Length: 00054") + GOOD),
    case("two lengths", 400, post(GOOD, b"Content-Length: 1")),
    case("two equal lengths", 200, post(GOOD, b"Content-Length: 54")),
    case("a list of equal lengths", 200, unframed(b"Content-Length: 54, 54") + GOOD),
    case("a list of other lengths", 400, unframed(b"Content-Length: 54, 1") + GOOD),
    case("a length too short", (422, 400), unframed(b"Content-Length: 50") + GOOD + b"\r\n\r\n"),
    case("a length too long", 408, unframed(b"Content-Length: 60") + GOOD),
    case("no length", 422, unframed()),
    case("no length, and a body", (422, 400), unframed() + GOOD + b"\r\n\r\n"),
    case("a body with GET", 200, get(b"/livez", b"Content-Length: 9") + b"some body"),
    case("a body that never comes", 408, unframed(b"Content-Length: 54")),
    case(
        "a body too large, told", 413, unframed(b"Content-Length: 65537", b"Expect: 100-continue")
    ),
    case("a body too large, sent", 413, post(b" " * 70_000)),
    case("a body that waits for 100", (100, 408), post(GOOD, b"Expect: 100-continue")[:-54]),
    case("a body after 100", (100, 200), post(GOOD, b"Expect: 100-continue")[:-54], GOOD),
    case("HTTP/1.0 with a length", 200, post().replace(b"1.1", b"1.0")),
]

CHUNKS: list[Case] = [
    case("chunks", 200, chunked(chunk(GOOD), END)),
    case("chunks of one byte", 200, chunked(*(chunk(bytes([each])) for each in GOOD), END)),
    case("a chunk in parts", 200, chunked(b"3"), b"6\r", b"\n" + GOOD, b"\r\n0\r\n", b"\r\n"),
    case("70,000 chunks of one byte", 413, chunked(chunk(b" ") * 70_000, END)),
    case("chunks without an end", 408, chunked(chunk(GOOD))),
    case("a chunk of 2^64 - 1 bytes", 413, chunked(b"f" * 16, b"\r\n" + b" " * 70_000)),
    case("a chunk of 2^80 bytes", 400, chunked(b"1" + b"0" * 20, b"\r\n" + GOOD)),
    case("a size of 5,000 digits", 400, chunked(b"1" * 5000, b"\r\n" + GOOD)),
    case("a size with many zeros", 400, chunked(b"0" * 5000, b"36\r\n" + GOOD)),
    *(
        case(f"the chunk size {size!r}", 400, chunked(size, b"\r\n" + GOOD + b"\r\n", END))
        for size in (b"-36", b"+36", b"0x36", b"3_6", b" 36", b"36 36", b"zz", b"", b"NaN", b"\xb2")
    ),
    case("a chunk with an extension", 200, chunked(b"36;a=b", b"\r\n" + GOOD + b"\r\n", END)),
    case("an extension of 1 MB", 431, chunked(b"36;", b"a" * 1_000_000, b"\r\n" + GOOD)),
    case("an extension with a line feed", 400, chunked(b"36;a\nb", b"\r\n" + GOOD + b"\r\n", END)),
    case("a chunk longer than told", 400, chunked(b"30\r\n" + GOOD + b"\r\n", END)),
    case("a chunk shorter than told", 400, chunked(b"3a\r\n" + GOOD + b"\r\n", END)),
    case("chunks that end in line feeds", 408, chunked(b"36\n" + GOOD + b"\n0\n\n")),
    case("a trailer", 200, chunked(chunk(GOOD), b"0\r\nX-Sum: 1\r\n\r\n")),
    case("a trailer with a length", 200, chunked(chunk(GOOD), b"0\r\nContent-Length: 9\r\n\r\n")),
    case("a trailer of 1 MB", 431, chunked(chunk(GOOD), b"0\r\n" + b"X: y\r\n" * 170_000, END)),
    case("a trailer without an end", 408, chunked(chunk(GOOD), b"0\r\nX: y\r\n")),
    *(
        case(f"the coding {coding!r}", statuses, unframed(b"Transfer-Encoding: " + coding) + END)
        for coding, statuses in (
            (b"chunked, chunked", 400),
            (b"gzip, chunked", 400),
            (b"chunked, gzip", 400),
            (b"identity", 400),
            (b"xchunked", 400),
            (b"chunked\x0b", 400),
            (b"\x00chunked", 400),
            (b"chunked;q=1", 400),
            (b"", 400),
            (b"CHUNKED", 422),
        )
    ),
    case(
        "the coding twice",
        400,
        unframed(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") + END,
    ),
    case("a coding in HTTP/1.0", 400, chunked(END).replace(b"HTTP/1.1", b"HTTP/1.0") + SMUGGLED),
    case(
        "a coding and a length",
        400,
        unframed(b"Content-Length: 5", b"Transfer-Encoding: chunked") + END + SMUGGLED,
    ),
    case(
        "a length and a coding with a space",
        400,
        unframed(b"Content-Length: 5", b"Transfer-Encoding : chunked") + END + SMUGGLED,
    ),
]

SEVERAL: list[Case] = [
    case("fifty in one go", (200,) * 50, get() * 50),
    case("ten pictures in one go", (200,) * 10, post() * 10),
    case("one, nonsense, one", (200, 400), get() + b"nonsense\r\n\r\n" + get()),
    case("a wrong body, then one", (422, 200), post(b"{") + get()),
    case("one too large, then one", (413, 200), post(b" " * 70_000) + get()),
    case("one closes, then one", 200, get(b"/livez", b"Connection: close") + get()),
    case("three hundred in one go", (200,) * 300, get() * 300),
]

NOWHERE = b"/nowhere"
EARLY: list[Case] = [  # the answer does not wait for the body
    case("a body for nobody, then one", (404, 200), post(path=NOWHERE) + get()),
    case("a large body for nobody", 404, post(bytes(2_000_000), path=NOWHERE)),
    case(
        "a large body for nobody, late",
        404,
        post(bytes(300_000), path=NOWHERE)[:-200_000],
        bytes(200_000),
    ),
    case("half a body for nobody", 404, post(path=NOWHERE)[:-1]),
    case("chunks for nobody", 404, chunked(chunk(bytes(70_000)) * 9, END, path=NOWHERE)),
    case("a bad chunk for nobody", 400, chunked(b"zz\r\n", path=NOWHERE)),
    case("a bad chunk for nobody, late", {400, 404}, chunked(path=NOWHERE), b"zz\r\n", b"more"),
    case("a bad chunk of another site", 400, chunked(b"zz\r\n").replace(b": l", b": x.y\r\nA: l")),
    case("a body for a wrong method", 405, post(bytes(99_000)).replace(b"POST", b"PUT")),
    case("a body of a wrong type", 415, post(bytes(99_000), b"Content-Encoding: br")),
]
