{{/* Redis of a check with TLS. */}}
{{- define "guildhall.testTlsEnv" -}}
{{- with include "guildhall.redisCa" . }}
- name: GUILDHALL_REDIS_CA
  value: {{ . }}
{{- end }}
{{- if .Values.tls.enabled }}
- name: GUILDHALL_TLS_CERT
  value: /run/guildhall/tls/tls.crt
- name: GUILDHALL_TLS_KEY
  value: /run/guildhall/tls/tls.key
{{- end }}
{{- end }}
