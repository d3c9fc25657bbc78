"""A Flask application whose sessions are in Redis, as Flask-Session's manual has it."""

from __future__ import annotations

from flask import Flask, request, session
from flask_session import Session
from redis import Redis
from web import serve
from work import DB, HOST, PORT

app = Flask(__name__)
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis(host=HOST, port=PORT, db=DB))
Session(app)


@app.get("/set")
def put() -> str:
    session[request.args["key"]] = request.args["value"]
    return "ok"


@app.get("/get")
def get() -> str:
    return session.get(request.args["key"], "nothing")


if __name__ == "__main__":
    serve(app)
