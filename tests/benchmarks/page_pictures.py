"""Pictures of the live page, taken in headless Chromium while a demo runs.

    pip install playwright pillow              # and a Chromium: `playwright install chromium`, or that of the system
    headwater demo --forever                   # prints the page's address
    python -m tests.benchmarks.page_pictures --url http://127.0.0.1:8080/ --to deploy/page/pictures [--chromium FILE]

Shows a user, has the first item of the list clicked, waits until a version has learned it, and takes the page as
wide as a laptop's screen, in light and dark, and as a telephone's. Ends with 1 where the browser's console has a word
of error or the page is wider than its window.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

SIZES = {"light": (1280, 800), "dark": (1280, 800), "narrow": (390, 844)}
LEARNED_MS = 120_000


def main() -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--user", default="405")
    parser.add_argument("--chromium", type=Path, help="the browser's program; default: Playwright's own")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright  # type: ignore[import-not-found, unused-ignore]  # no dependency

    arguments.to.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme="dark" if name == "dark" else "light"
            )
            page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(arguments.url)
            _click_first(page, arguments.user)
            picture = arguments.to / f"{name}.png"
            page.screenshot(path=picture, full_page=True)
            _shrink(picture)
            if (beyond := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
                wrong.append(f"{name}: {beyond} pixels wider than the window")
            Console().print(f"{name}: {page.inner_text('#told')}")
        browser.close()
    Console().print("\n".join(wrong) or "no errors")
    return 1 if wrong else 0


def _shrink(picture: Path) -> None:
    """A palette makes the file a third as large; one of maximum coverage keeps colours that few pixels have."""
    pixels = Image.open(picture).convert("RGB")
    pixels.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(picture, optimize=True)


def _click_first(page: Any, user: str) -> None:
    page.wait_for_selector("#users button", timeout=60_000)
    page.fill("#user", user)
    page.click("#user-form > button")
    page.click("#list li:first-child button")
    # Not wait_for_function: it evaluates a string, which the page's Content-Security-Policy forbids.
    page.wait_for_selector("#told:has-text('has learned it')", timeout=LEARNED_MS)


if __name__ == "__main__":
    sys.exit(main())
