"""A Django project whose cache and sessions are in Redis, as django-redis's manual has it."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.cache import cache
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004 - what redis-py calls them
from redis.retry import Retry
from web import serve
from work import DB, HOST, PORT

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["127.0.0.1"],
    CACHES={
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://{HOST}:{PORT}/{DB}",
            # Django's cache sessions take an error for a session that is not there, and begin another.
            "OPTIONS": {
                "CLIENT_CLASS": "django_redis.client.DefaultClient",
                "CONNECTION_POOL_KWARGS": {
                    "retry": Retry(ExponentialBackoff(cap=0.5, base=0.02), 40),
                    "retry_on_error": [ConnectionError, TimeoutError],
                },
            },
        }
    },
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
)
django.setup()


def put(request: HttpRequest) -> HttpResponse:
    key, value = request.GET["key"], request.GET["value"]
    request.session[key] = value
    cache.set(f"{request.COOKIES.get('sessionid')}/{key}", value, timeout=600)
    return HttpResponse("ok")


def get(request: HttpRequest) -> HttpResponse:
    key = request.GET["key"]
    cached = cache.get(f"{request.COOKIES['sessionid']}/{key}")
    found = request.session.get(key, "nothing")
    # A session's first request has no cookie yet.
    return HttpResponse(found if cached in (None, found) else f"{found} in the session, {cached} in the cache")


urlpatterns = [path("set", put), path("get", get)]

if __name__ == "__main__":
    serve(WSGIHandler())
