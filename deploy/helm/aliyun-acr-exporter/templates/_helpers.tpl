{{- define "aliyun-acr-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* 52 characters: a StatefulSet's pods get a hash of 11 more in their labels. */}}
{{- define "aliyun-acr-exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "aliyun-acr-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "aliyun-acr-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aliyun-acr-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* What every object has but those that a selector finds. */}}
{{- define "aliyun-acr-exporter.metaLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ include "aliyun-acr-exporter.name" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "aliyun-acr-exporter.labels" -}}
{{ include "aliyun-acr-exporter.selectorLabels" . }}
{{ include "aliyun-acr-exporter.metaLabels" . }}
{{- end }}

{{- define "aliyun-acr-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "aliyun-acr-exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "aliyun-acr-exporter.image" -}}
{{- with .Values.image }}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- /* Each of these is "true" or empty. */}}
{{- define "aliyun-acr-exporter.isStatefulSet" -}}
{{- if or (gt (int .Values.shards) 1) (and .Values.persistence.enabled (not .Values.persistence.existingClaim)) }}true{{ end }}
{{- end }}

{{- define "aliyun-acr-exporter.hasOwnConfig" -}}
{{- if not (or .Values.demo .Values.existingConfigMap .Values.existingConfigSecret) }}true{{ end }}
{{- end }}

{{- define "aliyun-acr-exporter.hasState" -}}
{{- if and .Values.state.enabled (not .Values.demo) }}true{{ end }}
{{- end }}

{{- /* The configuration file: `config` and what follows from other values. */}}
{{- define "aliyun-acr-exporter.config" -}}
{{- $config := deepCopy .Values.config }}
{{- if and (include "aliyun-acr-exporter.hasState" .) (not (hasKey $config "state")) }}
{{- $_ := set $config "state" (dict "path" "/var/lib/aliyun-acr-exporter/state") }}
{{- end }}
{{- $credentials := $config.credentials | default dict }}
{{- if and .Values.credentials.existingSecret (not (hasKey $credentials "default")) }}
{{- $folder := "/var/run/secrets/aliyun-acr-exporter" }}
{{- $keys := .Values.credentials.keys }}
{{- $entry := dict "type" "access_key" "access_key_id_file" (printf "%s/%s" $folder $keys.accessKeyId) "access_key_secret_file" (printf "%s/%s" $folder $keys.accessKeySecret) }}
{{- with $keys.securityToken }}
{{- $_ := set $entry "security_token_file" (printf "%s/%s" $folder .) }}
{{- end }}
{{- $_ := set $config "credentials" (set $credentials "default" $entry) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- /* Combinations that cannot work; what a single value may be is in values.schema.json. */}}
{{- define "aliyun-acr-exporter.validate" -}}
{{- if and (include "aliyun-acr-exporter.hasOwnConfig" .) (not .Values.config.instances) }}
{{- fail "nothing to watch: set config.instances, existingConfigMap or existingConfigSecret; or demo=true for a simulated cloud" }}
{{- end }}
{{- if and .Values.existingConfigMap .Values.existingConfigSecret }}
{{- fail "existingConfigMap and existingConfigSecret exclude each other" }}
{{- end }}
{{- if and .Values.config (not (include "aliyun-acr-exporter.hasOwnConfig" .)) }}
{{- fail "config would be ignored: existingConfigMap, existingConfigSecret or demo is set" }}
{{- end }}
{{- if and .Values.demo (gt (int .Values.shards) 1) }}
{{- fail "demo has one shard" }}
{{- end }}
{{- if and (gt (int .Values.shards) 1) .Values.persistence.existingClaim }}
{{- fail "persistence.existingClaim cannot serve several shards: each needs a state file of its own" }}
{{- end }}
{{- if and .Values.persistence.enabled (not (include "aliyun-acr-exporter.hasState" .)) }}
{{- fail "persistence.enabled without state: state.enabled is false, or demo is set" }}
{{- end }}
{{- if and (gt (int .Values.replicas) 1) .Values.persistence.enabled }}
{{- fail "replicas cannot share one state file; use shards, or replicas without persistence" }}
{{- end }}
{{- if and (gt (int .Values.replicas) 1) (gt (int .Values.shards) 1) }}
{{- fail "replicas and shards exclude each other" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor and podMonitor would scrape everything twice: enable one" }}
{{- end }}
{{- if and .Values.podDisruptionBudget.enabled (ne (toString .Values.podDisruptionBudget.minAvailable) "") (ne (toString .Values.podDisruptionBudget.maxUnavailable) "") }}
{{- fail "podDisruptionBudget takes minAvailable or maxUnavailable, not both" }}
{{- end }}
{{- end }}

{{- /* What is the same in both monitors. The job is the one that rules and dashboards expect,
whatever the release is called. */}}
{{- define "aliyun-acr-exporter.endpoint" -}}
port: http
path: {{ .root.Values.telemetryPath }}
scheme: {{ ternary "https" "http" .root.Values.webConfig.tls }}
interval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
relabelings:
  - targetLabel: job
    replacement: aliyun-acr-exporter
  {{- with .monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
