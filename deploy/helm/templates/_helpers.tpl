{{/* Fails for values that would install and not work, and says what to write instead. Every template begins
with it. */}}
{{- define "image-puller.validate" -}}
{{- $original := "(^|/)(eclipse/kubernetes-image-puller|devspaces/imagepuller-rhel[0-9]+)$" -}}
{{- $own := "quay.io/kubernetes-image-puller/kubernetes-image-puller" -}}
{{- if regexMatch $original .Values.image.repository -}}
{{- fail (printf "\n\nimage.repository: %s is the original puller's image, and this chart runs another program.\nRemove `image` from your values, or set the image of this chart or a mirror of it, without image.tag:\n\n  image:\n    repository: %s\n\nWith `helm upgrade` use --reset-then-reuse-values: --reuse-values keeps the defaults of the old chart.\n" .Values.image.repository $own) -}}
{{- end -}}
{{- if and (eq .Values.image.repository $own) (regexMatch "^(next|1\\.[01]\\.[0-9]+)$" (toString .Values.image.tag)) -}}
{{- fail (printf "\n\nimage.tag: %v is a tag of the original puller's image.\nRemove image.tag from your values: this chart belongs to %s.\n" .Values.image.tag .Chart.AppVersion) -}}
{{- end -}}
{{- $kip := regexReplaceAll "(:[^/]*)?(@.*)?$" (trim (toString (.Values.configMap.kipImage | default ""))) "" -}}
{{- if regexMatch $original $kip -}}
{{- fail (printf "\n\nconfigMap.kipImage: %s is the original puller's image, which has no /sleep.\nRemove it from your values: the service has the right one as its default. Or set a mirror of\n%s-sleep:%s.\n" .Values.configMap.kipImage $own .Chart.AppVersion) -}}
{{- end -}}
{{- if .Values.knative.enabled -}}
{{- range $object := list "ingress" "httpRoute" "cronJob" "serviceMonitor" "podDisruptionBudget" "resourceQuota" -}}
{{- if (get $.Values $object).enabled -}}
{{- fail (printf "\n\n%s.enabled: must not be true together with knative.enabled.\nKnative has its own routes, checks and replicas. A scrape would start the service. A quota would reject\nthe pods of Knative's sources, which name no resources.\n" $object) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq (include "image-puller.eventAuth" .) "oidc") (not .Values.configMap.oidcAudience) -}}
{{- fail "\n\nconfigMap.oidcAudience: must be set where configMap.eventAuth is oidc. It may be any name.\n" -}}
{{- end -}}
{{- if not (include "image-puller.images" .) -}}
{{- fail "\n\nconfigMap.images: must be set, as name=image;name=image;… or as a map of names to images.\n" -}}
{{- end -}}
{{- if ne (empty (include "image-puller.text" .Values.configMap.garAudience)) (empty (include "image-puller.text" .Values.configMap.garServiceAccount)) -}}
{{- fail "\n\nconfigMap.garAudience and configMap.garServiceAccount: set both or neither.\n" -}}
{{- end -}}
{{- if and (include "image-puller.text" .Values.configMap.oidcKeys) (not (include "image-puller.text" .Values.configMap.oidcIssuer)) -}}
{{- fail "\n\nconfigMap.oidcIssuer: must be set where configMap.oidcKeys is, to the issuer in senders' tokens.\n" -}}
{{- end -}}
{{- if and (eq (include "image-puller.text" .Values.configMap.verifyPushes) "true") (eq (include "image-puller.text" .Values.configMap.askRegistries) "false") -}}
{{- fail "\n\nconfigMap.verifyPushes: must not be true where configMap.askRegistries is false. Remove one of them.\n" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "\n\ningress.host: must be set where ingress.enabled is true, to the host name that registries send to:\n\n  --set ingress.host=puller.example.com\n\nWithout a host the Ingress would take the paths of every host of its controller.\n" -}}
{{- end -}}
{{- if eq (include "image-puller.text" .Values.configMap.readAuth) "none" -}}
{{- range $object := list "ingress" "httpRoute" -}}
{{- if and (get $.Values $object).enabled (get $.Values $object).status -}}
{{- fail (printf "\n\n%s.status: must not be true where configMap.readAuth is none: everybody could read the status.\nRemove one of them.\n" $object) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.resourceQuota.enabled (not .Values.resourceQuota.hard) -}}
{{- fail (printf "\n\nresourceQuota.hard: must be set where resourceQuota.enabled is true.\nThe service prints what the DaemonSet's pods need, here for 10 nodes. Where it runs already:\n\n  kubectl exec -n %s deploy/%s -- image-puller render --quota 10\n\nElsewhere, with the variables that you set by configMap:\n\n  docker run --rm -e IMAGES='%s' %s render --quota 10\n\nWrite `spec.hard` of that to resourceQuota.hard. Add the service's own pods: `resources` for each replica,\nand twice `cronJob.resources`, for a check and for `helm test`.\n" .Release.Namespace .Values.deploymentName (include "image-puller.images" .) (include "image-puller.image" .)) -}}
{{- end -}}
{{- end -}}

{{- define "image-puller.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The selector of the original's Deployment. The selector of an existing Deployment can't be changed. */}}
{{- define "image-puller.selector" -}}
app: {{ .Values.deploymentName }}
{{- end -}}

{{- define "image-puller.labels" -}}
{{ include "image-puller.selector" . }}
app.kubernetes.io/name: kubernetes-image-puller
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The label of the pods that send requests to the service: those of the CronJob and of `helm test`. */}}
{{- define "image-puller.client" -}}
image-puller.io/client-of: {{ .Values.deploymentName }}
{{- end -}}

{{/* The label of the pod of `helm test`. */}}
{{- define "image-puller.test" -}}
image-puller.io/test-of: {{ .Values.deploymentName }}
{{- end -}}

{{- define "image-puller.secret" -}}
{{ .Values.secrets.existingSecret | default (printf "%s-secrets" .Values.deploymentName) }}
{{- end -}}

{{/* The Secret of the public Service on Knative. */}}
{{- define "image-puller.webhooksSecret" -}}
{{ .Values.knative.existingWebhooksSecret | default (printf "%s-webhooks" .Values.deploymentName) }}
{{- end -}}

{{- define "image-puller.subscriber" -}}
ref:
  apiVersion: serving.knative.dev/v1
  kind: Service
  name: {{ .Values.deploymentName }}
{{- if eq (include "image-puller.eventAuth" .) "oidc" }}
audience: {{ .Values.configMap.oidcAudience }}
{{- end }}
{{- end -}}

{{/* A Secret with these keys. Keys that it has already keep their values. */}}
{{- define "image-puller.generated" -}}
{{- $live := (lookup "v1" "Secret" .root.Release.Namespace .name).data | default dict -}}
apiVersion: v1
kind: Secret
metadata:
  name: {{ .name }}
  labels:
    {{- include "image-puller.labels" .root | nindent 4 }}
type: Opaque
data:
  {{- range .keys }}
  {{ . }}: {{ get $live . | default (randAlphaNum 40 | b64enc) }}
  {{- end }}
{{- end -}}

{{/* The path prefixes of an Ingress or an HTTPRoute, as JSON. */}}
{{- define "image-puller.paths" -}}
{{ concat (.paths | default list) (ternary list (list "/status") (empty .status)) | uniq | toJson }}
{{- end -}}

{{- define "image-puller.eventAuth" -}}
{{ include "image-puller.text" .Values.configMap.eventAuth | default (ternary "none" "token" .Values.knative.enabled) }}
{{- end -}}

{{- define "image-puller.secretsDir" -}}
{{ .Values.configMap.webhookSecretsDir | default "/etc/image-puller/secrets" }}
{{- end -}}

{{- define "image-puller.port" -}}
{{ .Values.configMap.port | default 8080 }}
{{- end -}}

{{/* The URL of the service inside the cluster. */}}
{{- define "image-puller.url" -}}
http://{{ .Values.deploymentName }}.{{ .Release.Namespace }}{{ if and (not .Values.knative.enabled) (ne (int .Values.service.port) 80) }}:{{ .Values.service.port }}{{ end }}
{{- end -}}

{{/* The text of a value: maps and lists as JSON, whole numbers without an exponent. */}}
{{- define "image-puller.text" -}}
{{- if or (kindIs "map" .) (kindIs "slice" .) -}}
{{ toJson . }}
{{- else if kindIs "float64" . -}}
{{ if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else if not (kindIs "invalid" .) -}}
{{ trim (toString .) }}
{{- end -}}
{{- end -}}

{{/* The images as name=image;…, of a text, of a map in alphabetical order, or of a list in its own order. */}}
{{- define "image-puller.images" -}}
{{- $images := .Values.configMap.images -}}
{{- $items := list -}}
{{- if kindIs "map" $images -}}
{{- range $name, $image := $images -}}
{{- $items = append $items (printf "%s=%s" $name (trim $image)) -}}
{{- end -}}
{{- else if kindIs "slice" $images -}}
{{- range $images -}}
{{- if kindIs "map" . -}}
{{- $items = append $items (printf "%s=%s" .name (trim .image)) -}}
{{- else -}}
{{- $items = append $items (trim .) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $items = list (include "image-puller.text" $images) -}}
{{- end -}}
{{ join ";" $items }}
{{- end -}}

{{/* What the service's container has, and the pod of `helm test` too, so that both see the same. */}}
{{- define "image-puller.envFrom" -}}
- configMapRef:
    name: {{ .Values.configMap.name }}
{{- end -}}

{{- define "image-puller.volumeMounts" -}}
- name: secrets
  mountPath: {{ include "image-puller.secretsDir" . }}
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The volumes of a pod, with the Secret of a name. */}}
{{- define "image-puller.volumes" -}}
- name: secrets
  secret:
    secretName: {{ .secret }}
    # Without this Secret the service runs and rejects every request.
    optional: true
- name: tmp
  emptyDir:
    sizeLimit: 16Mi
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "image-puller.podSecurityContext" -}}
{{ toYaml (mustMergeOverwrite (dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault")) .Values.podSecurityContext) }}
{{- end -}}

{{- define "image-puller.containerSecurityContext" -}}
{{ toYaml (mustMergeOverwrite (dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "runAsNonRoot" true "capabilities" (dict "drop" (list "ALL")) "seccompProfile" (dict "type" "RuntimeDefault")) .Values.containerSecurityContext) }}
{{- end -}}

{{/* The startup taint, or nothing. */}}
{{- define "image-puller.startupTaint" -}}
{{ include "image-puller.text" .Values.configMap.nodeStartupTaint }}
{{- end -}}

{{/* Not empty where the service reads nodes. */}}
{{- define "image-puller.nodes" -}}
{{- if or .Values.nodes.watch (include "image-puller.startupTaint" .) -}}
true
{{- end -}}
{{- end -}}

{{/* Not empty where events report progress on Knative. */}}
{{- define "image-puller.progress" -}}
{{- if or .Values.knative.sink (include "image-puller.startupTaint" .) -}}
true
{{- end -}}
{{- end -}}

{{/* The tolerations of the service's own pod, as JSON. It also runs where every node has the startup taint, because
otherwise nobody would remove it. */}}
{{- define "image-puller.tolerations" -}}
{{- $tolerations := .Values.tolerations -}}
{{- with include "image-puller.startupTaint" . -}}
{{- $parts := splitList ":" . -}}
{{- $key := first $parts -}}
{{- $toleration := dict "key" $key "operator" "Exists" "effect" (last $parts) -}}
{{- if contains "=" $key -}}
{{- $pair := splitn "=" 2 $key -}}
{{- $toleration = dict "key" $pair._0 "operator" "Equal" "value" $pair._1 "effect" (last $parts) -}}
{{- end -}}
{{- $tolerations = append $tolerations $toleration -}}
{{- end -}}
{{ toJson $tolerations }}
{{- end -}}
