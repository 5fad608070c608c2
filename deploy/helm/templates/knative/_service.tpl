{{/* One of the Knative Services. They differ in who reaches them and in how senders authenticate. */}}
{{- define "image-puller.knativeService" -}}
{{- $ := .root -}}
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: {{ .name }}
  labels:
    {{- include "image-puller.labels" $ | nindent 4 }}
    {{- if not .public }}
    networking.knative.dev/visibility: cluster-local
    {{- end }}
  {{- with $.Values.deploymentAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  template:
    metadata:
      labels:
        app: {{ .name }}
        {{- with $.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # The service reads its variables only at its start, so a changed ConfigMap makes a new Revision.
        checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") $ | sha256sum }}
        autoscaling.knative.dev/min-scale: {{ $.Values.knative.minScale | quote }}
        # One process combines changes into one write. Several would only lose races to each other.
        autoscaling.knative.dev/max-scale: {{ max 1 $.Values.knative.minScale | quote }}
        # A namespace with a quota admits only pods whose containers all name their resources.
        queue.sidecar.serving.knative.dev/cpu-resource-request: 25m
        queue.sidecar.serving.knative.dev/cpu-resource-limit: "1"
        queue.sidecar.serving.knative.dev/memory-resource-request: 50Mi
        queue.sidecar.serving.knative.dev/memory-resource-limit: 256Mi
        {{- with $.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $.Values.serviceAccount.name }}
      enableServiceLinks: false
      # The number of the service's threads.
      containerConcurrency: 32
      # This is the pod's grace period too: 30 s until requests stop, 15 s for the last requests, and the
      # pending write.
      timeoutSeconds: 60
      {{- with $.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- /* Knative accepts these fields only where its feature flags allow them. */}}
      {{- with $.Values.podSecurityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $.Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $.Values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $.Values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $.Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: service
          image: {{ include "image-puller.image" $ }}
          imagePullPolicy: {{ $.Values.image.pullPolicy }}
          envFrom:
            {{- include "image-puller.envFrom" $ | nindent 12 }}
          env:
            - name: EVENT_AUTH
              value: {{ .auth }}
            {{- with $.Values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: http1
              containerPort: {{ include "image-puller.port" $ }}
          # Without periodSeconds Knative probes every 50 ms, which makes a cold start shorter. It then sets
          # the other times itself. A startupProbe would run once a second, and make a cold start longer.
          # Knative allows no preStop: its queue-proxy keeps a pod that ends for a while.
          readinessProbe:
            httpGet:
              path: /readyz
          livenessProbe:
            httpGet:
              path: /healthz
            initialDelaySeconds: 10
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          resources:
            {{- toYaml $.Values.resources | nindent 12 }}
          securityContext:
            {{- include "image-puller.containerSecurityContext" $ | nindent 12 }}
          volumeMounts:
            {{- include "image-puller.volumeMounts" $ | nindent 12 }}
      volumes:
        {{- include "image-puller.volumes" (dict "root" $ "secret" .secret) | nindent 8 }}
{{- end -}}
