"""How to point each registry here: the URL, and what to paste or to click at the sender.

The texts take the service's address for `<service>`, and for `<key>` the secret of the source where
the sender can show it only in the URL. A command that needs the secret otherwise reads `$SECRET`.
What is indented is to be pasted as it is; the rest is printed as comments round it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote, urlsplit

from image_puller.config.configuration import Google
from image_puller.http.authentication import EVENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """The URL that one sender must be given, and what to do there."""

    url: str
    steps: str


_FROM_CLUSTER = (
    "SECRET=$(kubectl get secret image-puller-secrets -o jsonpath='{.data.<file>}' | base64 -d)"
)

_HARBOR = """\
Harbor: project, Webhooks, New Webhook: notify type http, payload format Default or CloudEvents,
event types "Artifact pushed" and "Artifact deleted", this endpoint URL, and as auth header
"Bearer " and the secret. Or, as an administrator of the project:

    curl -fsS -u <user> -H 'Content-Type: application/json' -d @- \\
      https://<harbor>/api/v2.0/projects/<project>/webhook/policies <<EOF
    {"name": "image-puller", "enabled": true,
     "event_types": ["PUSH_ARTIFACT", "DELETE_ARTIFACT"],
     "targets": [{"type": "http", "address": "<url>", "auth_header": "Bearer $SECRET"}]}
    EOF
"""

_QUAY = """\
Quay: repository, Settings, Events and Notifications, Create Notification: event "Push to
Repository", method "Webhook POST", and this URL, whose user and password Quay sends as Basic
credentials; where a proxy on the way removes those, <service>/webhooks/quay/<key>
Or, with an OAuth token that may administer the repository:

    curl -fsS -H "Authorization: Bearer $QUAY_TOKEN" -H 'Content-Type: application/json' -d @- \\
      https://<quay>/api/v1/repository/<namespace>/<repository>/notification/ <<'EOF'
    {"title": "image-puller", "event": "repo_push", "eventConfig": {},
     "method": "webhook", "config": {"url": "<url>"}}
    EOF
"""

_DISTRIBUTION = """\
The registry's config.yml (then restart it):

    notifications:
      endpoints:
        - name: image-puller
          url: <url>
          headers:
            Authorization: [Bearer <secret>]
          timeout: 1s
          ignore:
            actions: [pull, mount]
            mediatypes: [application/octet-stream]
"""

_GITLAB = """\
Self-managed GitLab, in /etc/gitlab/gitlab.rb, then `gitlab-ctl reconfigure` (gitlab.com has no
webhook for images):

    registry['notifications'] = [
      {
        'name' => 'image-puller',
        'url' => '<url>',
        'timeout' => '1s',
        'backoff' => '1s',
        'headers' => { 'Authorization' => ['Bearer <secret>'] }
      }
    ]
"""

_DOCKERHUB = """\
Docker Hub: repository, Webhooks: any name, and this URL. Docker Hub can neither sign nor send a
header, so the URL is all that proves it.
"""

_GITHUB = """\
GitHub: organisation (or repository), Settings, Webhooks, Add webhook: this payload URL, content
type application/json, the secret, and of the individual events "Packages" alone. Or:

    gh api orgs/<org>/hooks -f name=web -f 'events[]=package' -f 'config[content_type]=json' \\
      -f 'config[url]=<url>' -f "config[secret]=$SECRET"
"""

_ACR = """\
A webhook of the registry:

    az acr webhook create --registry <registry> --name imagepuller --actions push delete \\
      --uri '<url>' --headers "Authorization=Bearer $SECRET"

Or Event Grid, which can only show the secret in the URL:

    az eventgrid event-subscription create --name imagepuller \\
      --source-resource-id "$(az acr show --name <registry> --query id --output tsv)" \\
      --endpoint '<url>/<key>' --event-delivery-schema cloudeventschemav1_0 \\
      --included-event-types Microsoft.ContainerRegistry.ImagePushed \\
        Microsoft.ContainerRegistry.ImageDeleted
"""

_ECR = """\
EventBridge in the registry's account and region; the role must be one that EventBridge may assume
and that may call events:InvokeApiDestination:

    CONNECTION=$(aws events create-connection --name image-puller \\
      --authorization-type BASIC --query ConnectionArn --output text \\
      --auth-parameters "BasicAuthParameters={Username=ecr,Password=$SECRET}")
    DESTINATION=$(aws events create-api-destination --name image-puller \\
      --connection-arn "$CONNECTION" --http-method POST --invocation-endpoint '<url>' \\
      --query ApiDestinationArn --output text)
    aws events put-rule --name image-puller --event-pattern \\
      '{"source": ["aws.ecr"], "detail-type": ["ECR Image Action"],
        "detail": {"action-type": ["PUSH", "DELETE"], "result": ["SUCCESS"]}}'
    aws events put-targets --rule image-puller --targets \\
      "Id=image-puller,Arn=$DESTINATION,RoleArn=arn:aws:iam::<account>:role/<role>"
"""

_GAR = """\
Artifact Registry and GCR publish to the topic gcr, if there is one:

    gcloud pubsub topics create gcr
    gcloud pubsub subscriptions create image-puller --topic gcr \\
      --push-endpoint '<url>'

Better: let Google sign a token for each push, and set GAR_SERVICE_ACCOUNT and GAR_AUDIENCE; this
command has then another URL, without a secret.
"""

_GAR_SIGNED = """\
Artifact Registry and GCR publish to the topic gcr, if there is one:

    gcloud pubsub topics create gcr
    gcloud pubsub subscriptions create image-puller --topic gcr \\
      --push-endpoint '<url>' \\
      --push-auth-service-account '<google-account>' \\
      --push-auth-token-audience '<google-audience>'
"""

_JFROG = """\
JFrog: Administration, General Management, Webhooks, New Webhook: this URL, events "Docker: tag was
pushed" and "deleted" of local repositories, the secret token, and "Use secret for payload signing".
Or, with an administrator's token:

    curl -fsS -H "Authorization: Bearer $JFROG_TOKEN" -H 'Content-Type: application/json' -d @- \\
      https://<jfrog>/event/api/v1/subscriptions <<EOF
    {"key": "image-puller", "enabled": true,
     "event_filter": {"domain": "docker", "event_types": ["pushed", "deleted"],
       "criteria": {"anyLocal": true, "anyRemote": false, "repoKeys": [],
         "includePatterns": [], "excludePatterns": []}},
     "handlers": [{"handler_type": "webhook", "url": "<url>",
       "secret": "$SECRET", "use_secret_for_signing": true}]}
    EOF

If the platform has no Custom Base URL, set WEBHOOK_REGISTRIES=jfrog=<host> here.
"""

_NEXUS = """\
Nexus: System, Capabilities, Create capability, "Webhook: Repository": the hosted Docker repository,
event type "component", this URL, and the secret as secret key. Its payload does not name the
registry: set WEBHOOK_REGISTRIES=nexus=<host:port of that repository's connector> here.
"""

_GITEA = """\
Gitea or Forgejo: organisation, user or repository, Settings, Webhooks, Add webhook, Gitea (or
Forgejo): this target URL, POST, application/json, the secret, custom events: "Packages". Or:

    curl -fsS -H "Authorization: token $GITEA_TOKEN" -H 'Content-Type: application/json' -d @- \\
      https://<gitea>/api/v1/orgs/<org>/hooks <<EOF
    {"type": "gitea", "active": true, "events": ["package"],
     "config": {"content_type": "json", "url": "<url>", "secret": "$SECRET"}}
    EOF
"""

_ZOT = """\
zot's config.json, beside its other extensions (then restart it):

    {"extensions": {"events": {"enable": true, "sinks": [{
      "type": "http",
      "address": "<url>",
      "timeout": "5s",
      "credentials": {"username": "zot", "password": "<secret>"}
    }]}}}

Its payload does not name the registry: set WEBHOOK_REGISTRIES=zot=<host> here.
"""

_CDEVENTS = """\
Whatever sends your CDEvents: this URL and the header "Authorization: Bearer <secret>". The subject
of dev.cdevents.artifact.published must name the tag, as in this one:

    curl -fsS -H "Authorization: Bearer $SECRET" -H 'Content-Type: application/json' -d @- \\
      '<url>' <<'EOF'
    {"context": {"type": "dev.cdevents.artifact.published.0.2.0"},
     "subject": {"id": "pkg:oci/<name>?repository_url=<registry>/<path>/<name>&tag=<tag>"}}
    EOF
"""

_ALIYUN = """\
Alibaba Cloud: repository, Triggers, Create: any name, this URL. The payload names only a region:
where the registry has a host of its own, set REGISTRY_ALIASES=registry.<region>.aliyuncs.com=<host>
here.
"""

_CLOUDEVENTS = """\
Anything that can send CloudEvents (with EVENT_AUTH=token, the default):

    curl -fsS -H "Authorization: Bearer $SECRET" -d @- \\
      -H 'Content-Type: application/cloudevents+json' '<url>' <<'EOF'
    {"specversion": "1.0", "id": "1", "source": "/ci",
     "type": "io.image-puller.image.pushed",
     "data": {"registry": "<registry>", "repository": "<path>", "tag": "<tag>", "digest": null}}
    EOF
"""

GUIDES: Mapping[str, Guide] = MappingProxyType(
    {
        "acr": Guide(url="<service>/webhooks/acr", steps=_ACR),
        "aliyun": Guide(url="<service>/webhooks/aliyun/<key>", steps=_ALIYUN),
        "cdevents": Guide(url="<service>/webhooks/cdevents", steps=_CDEVENTS),
        "cloudevents": Guide(url="<service>/", steps=_CLOUDEVENTS),
        "distribution": Guide(url="<service>/webhooks/distribution", steps=_DISTRIBUTION),
        "dockerhub": Guide(url="<service>/webhooks/dockerhub/<key>", steps=_DOCKERHUB),
        "ecr": Guide(url="<service>/webhooks/ecr", steps=_ECR),
        "gar": Guide(url="<service>/webhooks/gar/<key>", steps=_GAR),
        "gitea": Guide(url="<service>/webhooks/gitea", steps=_GITEA),
        "github": Guide(url="<service>/webhooks/github", steps=_GITHUB),
        "gitlab": Guide(url="<service>/webhooks/gitlab", steps=_GITLAB),
        "harbor": Guide(url="<service>/webhooks/harbor", steps=_HARBOR),
        "jfrog": Guide(url="<service>/webhooks/jfrog", steps=_JFROG),
        "nexus": Guide(url="<service>/webhooks/nexus", steps=_NEXUS),
        "quay": Guide(url="<with-key>/webhooks/quay", steps=_QUAY),
        "zot": Guide(url="<service>/webhooks/zot", steps=_ZOT),
    }
)


def shows_secret(name: str, google: Google | None) -> bool:
    """Whether what is printed for a source has the secret in a URL, if the secret is known."""
    guide = _guide(name, google)
    return any(mark in guide.url + guide.steps for mark in ("<key>", "<with-key>"))


def render(name: str, service: str, secret: bytes | None, google: Google | None) -> str:
    """All that is to be said of a source.

    `service` is the address at which senders reach the service; `secret` stays a placeholder
    where it is not known. With `google`, its signed tokens are what proves a push of `gar`.
    """
    guide = _guide(name, google)
    file = EVENTS if name == "cloudevents" else name
    text = f"URL:    <url>\nSecret: {_whose(name, google, file)}\n\n"
    if "$SECRET" in guide.steps:
        text += f"    {_FROM_CLUSTER}\n\n"
    text = _with_comments(text + guide.steps)
    key = "<secret>" if secret is None else quote(secret, safe="")
    for mark, value in {
        "<url>": guide.url,
        "<with-key>": _with_user(service, name, key),
        "<service>": service,
        "<key>": key,
        "<file>": file,
        "<google-account>": google.service_account if google else "",
        "<google-audience>": google.audience if google else "",
    }.items():
        text = text.replace(mark, value)
    return text


def _guide(name: str, google: Google | None) -> Guide:
    if name == "gar" and google is not None:
        return Guide(url="<service>/webhooks/gar", steps=_GAR_SIGNED)
    return GUIDES[name]


def _whose(name: str, google: Google | None, file: str) -> str:
    if name == "gar" and google is not None:
        return "none; Google's signed token is checked"
    return f"the content of file {file} in WEBHOOK_SECRETS_DIR"


def _with_comments(text: str) -> str:
    """So a shell takes all of it, and a here-document finds its end."""
    lines = text.splitlines(keepends=True)
    return "".join(
        line.removeprefix("    ") if line[0].isspace() else f"# {line}" for line in lines
    )


def _with_user(service: str, user: str, key: str) -> str:
    parts = urlsplit(service)
    return parts._replace(netloc=f"{user}:{key}@{parts.netloc}").geturl()
