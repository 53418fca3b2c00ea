"""The HTTP side: GET / says that it lives, POST /count counts the words of the body."""

import bottle

from app.counting import count_words

application = bottle.Bottle()
MOST_BYTES = 1 << 20


@application.get("/")
def alive() -> dict[str, object]:
    return {"service": "word count", "usage": "POST text to /count"}


@application.post("/count")
def count() -> dict[str, object]:
    body = bottle.request.body.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        bottle.abort(413, "more than 1 MiB of text")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        bottle.abort(400, "the text is not UTF-8")
    return count_words(text)
