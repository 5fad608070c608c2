{{/* One of the Knative Services: they differ in who reaches them and in what those must prove. */}}
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
        # The service reads its variables once, at its start.
        checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") $ | sha256sum }}
        autoscaling.knative.dev/min-scale: {{ $.Values.knative.minScale | quote }}
        # One process makes one write of all that comes together; more would only race.
        autoscaling.knative.dev/max-scale: {{ max 1 $.Values.knative.minScale | quote }}
        # Else a quota in the namespace keeps its pods out.
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
      # As many as it has threads.
      containerConcurrency: 32
      # Also the pod's grace period: 30 s without requests, 15 s for the last ones, and what is pending.
      timeoutSeconds: 60
      {{- with $.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- /* Knative takes these only where its feature flags say so. */}}
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
            - configMapRef:
                name: {{ $.Values.configMap.name }}
          env:
            - name: EVENT_AUTH
              value: {{ .auth }}
            {{- with $.Values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: http1
              containerPort: {{ include "image-puller.port" $ }}
          # Without a period it is asked every 50 ms, so that nobody waits longer than need be.
          readinessProbe:
            httpGet:
              path: /readyz
          livenessProbe:
            httpGet:
              path: /healthz
            initialDelaySeconds: 10
            periodSeconds: 10
            timeoutSeconds: 5
          resources:
            {{- toYaml $.Values.resources | nindent 12 }}
          securityContext:
            {{- include "image-puller.containerSecurityContext" $ | nindent 12 }}
          volumeMounts:
            - name: secrets
              mountPath: {{ include "image-puller.secretsDir" $ }}
              readOnly: true
            - name: tmp
              mountPath: /tmp
            {{- with $.Values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: secrets
          secret:
            secretName: {{ .secret }}
            # Without it the service runs, and refuses everybody.
            optional: true
        - name: tmp
          emptyDir:
            sizeLimit: 16Mi
        {{- with $.Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
