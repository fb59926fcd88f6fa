{{- /* The pod of the Deployment and of the StatefulSet. */}}
{{- define "aliyun-acr-exporter.podTemplate" -}}
{{- $hasConfig := not .Values.demo }}
{{- $hasState := include "aliyun-acr-exporter.hasState" . }}
metadata:
  labels:
    {{- include "aliyun-acr-exporter.labels" . | nindent 4 }}
    {{- if .Values.rrsa.enabled }}
    pod-identity.alibabacloud.com/injection: "on"
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: aliyun-acr-exporter
    {{- if include "aliyun-acr-exporter.hasOwnConfig" . }}
    {{- $config := include "aliyun-acr-exporter.config" . | fromYaml }}
    {{- /* All of the configuration, or what the exporter reads at its start alone. */}}
    checksum/config: {{ ternary $config (pick $config "state") .Values.rolloutOnConfigChange | toJson | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "aliyun-acr-exporter.serviceAccountName" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
  {{- /* Its variables would have the prefix of the exporter's own. */}}
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: aliyun-acr-exporter
      image: {{ include "aliyun-acr-exporter.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        {{- if .Values.demo }}
        - demo
        {{- else }}
        - --config.file=/etc/aliyun-acr-exporter/config.yaml
        {{- end }}
        - --web.listen-address=:{{ .Values.containerPort }}
        {{- if ne .Values.telemetryPath "/metrics" }}
        - --web.telemetry-path={{ .Values.telemetryPath }}
        {{- end }}
        {{- if .Values.webConfig.existingSecret }}
        - --web.config.file=/etc/aliyun-acr-exporter-web/{{ .Values.webConfig.key }}
        {{- end }}
        {{- if gt (int .Values.shards) 1 }}
        - --shard.index=auto
        - --shard.total={{ .Values.shards }}
        {{- end }}
        - --log.level={{ .Values.log.level }}
        - --log.format={{ .Values.log.format }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or .Values.rrsa.enabled .Values.env }}
      env:
        {{- if .Values.rrsa.enabled }}
        {{- /* A pod that the webhook missed shall fail, not take the node's role. */}}
        - name: ALIBABA_CLOUD_ECS_METADATA_DISABLED
          value: "true"
        {{- end }}
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      {{- with .Values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.containerPort }}
          protocol: TCP
      {{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
      {{- with deepCopy (index $.Values $probe) }}
      {{- if .httpGet }}
      {{- $get := dict "port" "http" "scheme" (ternary "HTTPS" "HTTP" $.Values.webConfig.tls) }}
      {{- $_ := set . "httpGet" (merge .httpGet $get) }}
      {{- end }}
      {{ $probe }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      {{- if or $hasConfig $hasState .Values.webConfig.existingSecret .Values.webConfig.tlsSecret .Values.credentials.existingSecret .Values.extraVolumeMounts }}
      volumeMounts:
        {{- if $hasConfig }}
        {{- /* The folder, no subPath: that would never see a change. */}}
        - name: config
          mountPath: /etc/aliyun-acr-exporter
          readOnly: true
        {{- end }}
        {{- if .Values.credentials.existingSecret }}
        - name: credentials
          mountPath: /var/run/secrets/aliyun-acr-exporter
          readOnly: true
        {{- end }}
        {{- if .Values.webConfig.existingSecret }}
        - name: web-config
          mountPath: /etc/aliyun-acr-exporter-web
          readOnly: true
        {{- end }}
        {{- if .Values.webConfig.tlsSecret }}
        - name: tls
          mountPath: /etc/aliyun-acr-exporter-tls
          readOnly: true
        {{- end }}
        {{- if $hasState }}
        - name: state
          mountPath: /var/lib/aliyun-acr-exporter
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $own := dict "labelSelector" (dict "matchLabels" (include "aliyun-acr-exporter.selectorLabels" $ | fromYaml)) }}
    - {{- toYaml (merge (deepCopy .) $own) | nindent 6 }}
    {{- end }}
  {{- end }}
  {{- $claimed := and $hasState .Values.persistence.enabled (not .Values.persistence.existingClaim) }}
  {{- if or $hasConfig (and $hasState (not $claimed)) .Values.webConfig.existingSecret .Values.webConfig.tlsSecret .Values.credentials.existingSecret .Values.extraVolumes }}
  volumes:
    {{- if $hasConfig }}
    - name: config
      {{- if .Values.existingConfigSecret }}
      secret:
        secretName: {{ .Values.existingConfigSecret }}
        defaultMode: 0440
      {{- else }}
      configMap:
        name: {{ default (include "aliyun-acr-exporter.fullname" .) .Values.existingConfigMap }}
      {{- end }}
    {{- end }}
    {{- with .Values.credentials.existingSecret }}
    - name: credentials
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.webConfig.existingSecret }}
    - name: web-config
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.webConfig.tlsSecret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- if and $hasState (not $claimed) }}
    - name: state
      {{- if .Values.persistence.enabled }}
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim }}
      {{- else }}
      emptyDir:
        sizeLimit: {{ .Values.state.sizeLimit }}
      {{- end }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end }}
