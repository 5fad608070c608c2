"""Pull secrets, as the API server returns them."""

import base64
import json


def pull_secret(name: str, username: str) -> dict[str, object]:
    """Return a Secret with credentials for quay.io."""
    config = {"auths": {"quay.io": {"username": username, "password": "word"}}}
    data = base64.b64encode(json.dumps(config).encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": data},
    }
