"""Stock OAuth programs: the client of Authlib, and users who log in at an OpenID provider.

Reads a command as a line of JSON, and prints its answer as one. `service` is the address of the
service, of which only the metadata is used (RFC 8414); `provider` is that of the provider.
"""

import json
import sys

import httpx
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import OAuth2Client

PAGE = "http://localhost/page"


def login(provider, audience, user):
    """A user logs in (authorization code flow); the page gets an ID token."""
    discovered = httpx.get(f"{provider}/.well-known/openid-configuration").json()
    client = OAuth2Client(audience, "any-secret", scope="openid", redirect_uri=PAGE)
    address, _ = client.create_authorization_url(discovered["authorization_endpoint"])
    redirect = httpx.post(address, data={"sub": user}).headers["location"]
    return client.fetch_token(discovered["token_endpoint"], authorization_response=redirect)["id_token"]


def metadata(service):
    return httpx.get(f"{service}/.well-known/oauth-authorization-server").raise_for_status().json()


def exchange(service, jwt, **more):
    """RFC 8693, without authentication of a client."""
    client = OAuth2Client(token_endpoint_auth_method="none")
    return client.fetch_token(
        metadata(service)["token_endpoint"],
        grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token=jwt,
        subject_token_type="urn:ietf:params:oauth:token-type:jwt",
        **more,
    )


def client_credentials(service, id, secret, scope, method):
    client = OAuth2Client(id, secret, token_endpoint_auth_method=method, scope=scope)
    return client.fetch_token(metadata(service)["token_endpoint"], grant_type="client_credentials")


def introspect(service, id, secret, token):
    client = OAuth2Client(id, secret)
    address = metadata(service)["introspection_endpoint"]
    return client.introspect_token(address, token=token, token_type_hint="access_token").json()


def revoke(service, id, secret, token):
    client = OAuth2Client(id, secret)
    address = metadata(service)["revocation_endpoint"]
    return client.revoke_token(address, token=token, token_type_hint="access_token").status_code


def carry_out(command):
    function = globals()[command.pop("function")]
    try:
        return {"returned": function(**command)}
    except OAuthError as error:
        return {"error": error.error, "description": error.description}
    except httpx.HTTPStatusError as error:
        return {"status": error.response.status_code}


while line := sys.stdin.readline():
    print(json.dumps(carry_out(json.loads(line))), flush=True)
