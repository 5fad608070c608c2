{{/* What would install and not work is refused, with what to write instead. Each template begins with it. */}}
{{- define "image-puller.check" -}}
{{- $original := "(^|/)(eclipse/kubernetes-image-puller|devspaces/imagepuller-rhel[0-9]+)$" -}}
{{- $own := "quay.io/kubernetes-image-puller/kubernetes-image-puller" -}}
{{- if regexMatch $original .Values.image.repository -}}
{{- fail (printf "\n\nimage.repository: %s is the original puller's image, and this chart runs another program.\nWrite instead\n\n  image:\n    repository: %s\n\nor your mirror of it, and no image.tag; or leave `image` out of your values.\nWith `helm upgrade` say --reset-then-reuse-values, not --reuse-values, which keeps the old chart's defaults.\n" .Values.image.repository $own) -}}
{{- end -}}
{{- if and (eq .Values.image.repository $own) (regexMatch "^(next|1\\.[01]\\.[0-9]+)$" (toString .Values.image.tag)) -}}
{{- fail (printf "\n\nimage.tag: %v is a tag of the original puller's image.\nLeave image.tag out of your values: this chart goes with %s.\n" .Values.image.tag .Chart.AppVersion) -}}
{{- end -}}
{{- $kip := regexReplaceAll "(:[^/]*)?(@.*)?$" (trim (toString (.Values.configMap.kipImage | default ""))) "" -}}
{{- if regexMatch $original $kip -}}
{{- fail (printf "\n\nconfigMap.kipImage: %s is the original puller's image, which has no /sleep.\nLeave it out of your values: the service knows the image that was built with it. Or name a mirror of\n%s-sleep:%s.\n" .Values.configMap.kipImage $own .Chart.AppVersion) -}}
{{- end -}}
{{- if .Values.knative.enabled -}}
{{- range $object := list "ingress" "httpRoute" "cronJob" "serviceMonitor" "podDisruptionBudget" "resourceQuota" -}}
{{- if (get $.Values $object).enabled -}}
{{- fail (printf "\n\n%s.enabled: not together with knative.enabled.\nOn Knative routes, ticks and replicas are Knative's own, a scrape would wake the service, and a quota would\nkeep out Knative's pods, which name no resources (see `image-puller render --quota`).\n" $object) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq (include "image-puller.eventAuth" .) "oidc") (not .Values.configMap.oidcAudience) -}}
{{- fail "\n\nconfigMap.oidcAudience: must be set where configMap.eventAuth is oidc, to any name\n" -}}
{{- end -}}
{{- if not (include "image-puller.text" .Values.configMap.images) -}}
{{- fail "\n\nconfigMap.images: must be set, as name=image;name=image;…\n" -}}
{{- end -}}
{{- end -}}

{{- define "image-puller.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The original's selector, which can't be changed on a Deployment that is there. */}}
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

{{/* Of the pods that ask the service: its ticks and its test. */}}
{{- define "image-puller.client" -}}
image-puller.io/client-of: {{ .Values.deploymentName }}
{{- end -}}

{{- define "image-puller.secret" -}}
{{ .Values.secrets.existingSecret | default (printf "%s-secrets" .Values.deploymentName) }}
{{- end -}}

{{/* On Knative the public Service has one of its own. */}}
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

{{/* A Secret with these keys: what it holds stays. */}}
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

{{- define "image-puller.eventAuth" -}}
{{ include "image-puller.text" .Values.configMap.eventAuth | default (ternary "none" "token" .Values.knative.enabled) }}
{{- end -}}

{{- define "image-puller.secretsDir" -}}
{{ .Values.configMap.webhookSecretsDir | default "/etc/image-puller/secrets" }}
{{- end -}}

{{- define "image-puller.port" -}}
{{ .Values.configMap.port | default 8080 }}
{{- end -}}

{{/* The service, for what is in the cluster. */}}
{{- define "image-puller.url" -}}
http://{{ .Values.deploymentName }}.{{ .Release.Namespace }}{{ if and (not .Values.knative.enabled) (ne (int .Values.service.port) 80) }}:{{ .Values.service.port }}{{ end }}
{{- end -}}

{{/* A value as a variable has it: maps and lists as JSON, whole numbers without an exponent. */}}
{{- define "image-puller.text" -}}
{{- if or (kindIs "map" .) (kindIs "slice" .) -}}
{{ toJson . }}
{{- else if kindIs "float64" . -}}
{{ if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else if not (kindIs "invalid" .) -}}
{{ trim (toString .) }}
{{- end -}}
{{- end -}}

{{- define "image-puller.podSecurityContext" -}}
{{ toYaml (mustMergeOverwrite (dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault")) .Values.podSecurityContext) }}
{{- end -}}

{{- define "image-puller.containerSecurityContext" -}}
{{ toYaml (mustMergeOverwrite (dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "runAsNonRoot" true "capabilities" (dict "drop" (list "ALL")) "seccompProfile" (dict "type" "RuntimeDefault")) .Values.containerSecurityContext) }}
{{- end -}}

{{/* How many containers a pod of the DaemonSet can have: what `image-puller render --quota` counts. */}}
{{- define "image-puller.containers" -}}
{{- $version := "(?i)^v?[0-9]+(\\.[0-9]+){2,}([-._]?(alpha|beta|rc|pre|dev|snapshot)[-._]?[0-9]+)?([-_][a-z0-9_.-]+|\\.[a-z][a-z0-9_.-]*)?$" -}}
{{- $policies := dict -}}
{{- range splitList ";" (include "image-puller.text" .Values.configMap.imageTagPolicies) -}}
{{- $_ := set $policies (splitList "=" . | first | trim) (regexReplaceAll "^[^=]*=" . "" | trim) -}}
{{- end -}}
{{- $keep := include "image-puller.text" .Values.configMap.keepTags | default "2" | int -}}
{{- $containers := dict -}}
{{- range splitList ";" .Values.configMap.images -}}
{{- if regexMatch "^\\s*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\s*=\\s*[^=\\s]+\\s*$" . -}}
{{- $name := splitList "=" . | first | trim -}}
{{- $image := splitList "=" . | last | trim -}}
{{- $policy := get $policies $name | default "auto" -}}
{{- $tag := regexFind ":[^:/@]*$" $image | trimPrefix ":" -}}
{{- $follows := or (eq $policy "any") (regexMatch "^(semver|glob|regex):" $policy) -}}
{{- if and (eq $policy "auto") (not (contains "@" $image)) -}}
{{- $follows = regexMatch $version $tag -}}
{{- end -}}
{{- $_ := set $containers $name (ternary (add1 $keep) 1 $follows) -}}
{{- end -}}
{{- end -}}
{{- /* The one that brings the sleep. */ -}}
{{- $total := 1 -}}
{{- range values $containers -}}
{{- $total = add $total . -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{/* A quantity in thousandths of its unit. */}}
{{- define "image-puller.thousandths" -}}
{{- $text := include "image-puller.text" . -}}
{{- $factors := dict "" 1e3 "m" 1 "k" 1e6 "M" 1e9 "G" 1e12 "T" 1e15 "Ki" 1024e3 "Mi" 1048576e3 "Gi" 1073741824e3 "Ti" 1099511627776e3 -}}
{{- $suffix := regexFind "[A-Za-z]*$" $text -}}
{{- if not (hasKey $factors $suffix) -}}
{{- fail (printf "\n\nresourceQuota: can't add up the quantity %q; write it with one of m k M G T Ki Mi Gi Ti\n" $text) -}}
{{- end -}}
{{- mulf (trimSuffix $suffix $text | default "0") (get $factors $suffix) | ceil | int64 -}}
{{- end -}}
