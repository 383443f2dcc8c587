{{/* A gateway that asks for no key listens beyond loopback only when told so. */}}
{{- define "guildhall.gatewayEnv" -}}
# API keys outlive a generation.
- name: GUILDHALL_ACCOUNTS
  value: {{ include "guildhall.fullname" . }}
{{- if eq .Values.auth.mode "none" }}
- name: GUILDHALL_ALLOW_ANONYMOUS
  value: 'true'
{{- end }}
{{- end }}
