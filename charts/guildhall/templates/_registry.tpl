{{/* Redis: where it is, and how processes get its password. */}}
{{- define "guildhall.registryHost" -}}
{{- include "guildhall.objectName" (list . "valkey") -}}
{{- end }}

{{/* Name of the Secret with the password of the bundled Valkey. */}}
{{- define "guildhall.registrySecret" -}}
{{- if eq .Values.registry.mode "external" -}}
{{- .Values.registry.external.existingSecret -}}
{{- else -}}
{{- .Values.registry.bundled.existingSecret | default (include "guildhall.objectName" (list . "valkey")) -}}
{{- end -}}
{{- end }}

{{/* Ports that an external Redis may be reached at: those of its URL, and the usual one, which a Sentinel may name. */}}
{{- define "guildhall.registryPorts" -}}
{{- $external := .Values.registry.external -}}
{{- if $external.ports -}}
{{- toJson $external.ports -}}
{{- else -}}
{{- $ports := list 6379 -}}
{{- range regexFindAll ":[0-9]+" $external.url -1 -}}
{{- $ports = append $ports (trimPrefix ":" . | int) -}}
{{- end -}}
{{- toJson (uniq $ports | sortAlpha) -}}
{{- end -}}
{{- end }}

{{- define "guildhall.registryEnv" -}}
{{- $external := .Values.registry.external -}}
{{- $secret := include "guildhall.registrySecret" . -}}
{{- $keys := dict "REDIS_PASSWORD" "password" -}}
{{- if eq .Values.registry.mode "external" -}}
{{- $keys = dict "REDIS_USERNAME" $external.usernameKey "REDIS_PASSWORD" $external.passwordKey "SENTINEL_USERNAME" $external.sentinelUsernameKey "SENTINEL_PASSWORD" $external.sentinelPasswordKey -}}
{{- end -}}
- name: GUILDHALL_REDIS
  {{- if eq .Values.registry.mode "bundled" }}
  value: redis{{ if .Values.tls.enabled }}s{{ end }}://{{ include "guildhall.registryHost" . }}:{{ include "guildhall.port" "valkey" }}
  {{- else if $external.url }}
  value: {{ $external.url | quote }}
  {{- else }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $external.urlKey }}
  {{- end }}
{{- range $name, $key := $keys }}
{{- if $key }}
- name: GUILDHALL_{{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- end }}

{{/* Authority of an external Redis with TLS. */}}
{{- define "guildhall.registryVolumes" -}}
{{- $ca := .Values.registry.external.ca -}}
{{- if and (eq .Values.registry.mode "external") $ca.existingSecret }}
- name: redis-ca
  secret:
    secretName: {{ $ca.existingSecret }}
    defaultMode: 0444
    items:
      - key: {{ $ca.key }}
        path: ca.crt
{{- end }}
{{- end }}

{{- define "guildhall.registryMounts" -}}
{{- if and (eq .Values.registry.mode "external") .Values.registry.external.ca.existingSecret }}
- name: redis-ca
  mountPath: /run/guildhall/redis
  readOnly: true
{{- end }}
{{- end }}

{{- define "guildhall.redisCa" -}}
{{- if eq .Values.registry.mode "bundled" -}}
{{- if .Values.tls.enabled -}}/run/guildhall/tls/ca.crt{{- end -}}
{{- else if .Values.registry.external.ca.existingSecret -}}
/run/guildhall/redis/ca.crt
{{- end -}}
{{- end }}
