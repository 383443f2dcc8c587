{{/* The release's own API as pods see it. */}}
{{- define "guildhall.apiUrl" -}}
http{{ if .Values.gateway.https.existingSecret }}s{{ end }}://{{ include "guildhall.fullname" . }}:{{ .Values.gateway.service.port }}
{{- end }}

{{/* A key for pods that call the API. */}}
{{- define "guildhall.apiKeyEnv" -}}
{{- if eq .Values.auth.mode "keys" }}
- name: GUILDHALL_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "guildhall.apiKeySecret" . }}
      key: {{ .Values.auth.testKey }}
{{- end }}
{{- end }}

{{/* Environment of every process: what depends on the pod, and secrets. Takes (dict root component values). */}}
{{- define "guildhall.env" -}}
- name: GUILDHALL_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: GUILDHALL_NODE
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: GUILDHALL_CLUSTER
  value: {{ include "guildhall.cluster" .root }}
- name: GUILDHALL_CLUSTER_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "guildhall.clusterSecret" .root }}
      key: {{ .root.Values.clusterToken.key }}
{{ include "guildhall.registryEnv" .root | trim }}
- name: HOME
  value: /tmp
{{- with .root.Values.tracing.endpoint }}
- name: GUILDHALL_OTLP_ENDPOINT
  value: {{ . | quote }}
- name: GUILDHALL_TRACE_RATIO
  value: {{ $.root.Values.tracing.ratio | quote }}
- name: GUILDHALL_TRACE_STEP_RATIO
  value: {{ $.root.Values.tracing.stepRatio | quote }}
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Threads of the kernels by the container's CPU limit, where there is one. */}}
{{- define "guildhall.threadsEnv" -}}
{{- if and (dig "resources" "limits" "cpu" "" .values) (not (hasKey .values.config "threads")) }}
- name: GUILDHALL_THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
{{- end }}
{{- end }}

{{- define "guildhall.advertiseEnv" -}}
- name: GUILDHALL_ADVERTISE
  value: {{ if eq .root.Values.ipFamily "IPv6" }}"[$(POD_IP)]:{{ .port }}"{{ else }}$(POD_IP):{{ .port }}{{ end }}
{{- end }}

{{- define "guildhall.clusterSecret" -}}
{{- .Values.clusterToken.existingSecret | default (include "guildhall.objectName" (list . "cluster")) -}}
{{- end }}

{{- define "guildhall.apiKeySecret" -}}
{{- .Values.auth.existingSecret | default (include "guildhall.objectName" (list . "api-keys")) -}}
{{- end }}

{{/* The value of a generated secret: the one in the cluster, or a new one. Takes (list root name key). */}}
{{- define "guildhall.keptSecret" -}}
{{- $root := index . 0 -}}
{{- $live := lookup "v1" "Secret" $root.Release.Namespace (index . 1) | default dict -}}
{{- $old := dig "data" (index . 2) "" $live -}}
{{- if $old }}{{ $old | b64dec }}{{ else }}{{ randAlphaNum 40 }}{{ end -}}
{{- end }}
