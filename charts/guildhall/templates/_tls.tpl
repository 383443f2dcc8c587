{{/* Mutual TLS between the release's processes. */}}
{{- define "guildhall.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (include "guildhall.objectName" (list . "tls")) -}}
{{- end }}

{{- define "guildhall.tlsVolumes" -}}
{{- if .Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "guildhall.tlsSecret" . }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{- define "guildhall.tlsMounts" -}}
{{- if .Values.tls.enabled }}
- name: tls
  mountPath: /run/guildhall/tls
  readOnly: true
{{- end }}
{{- end }}

{{/*
Peers are reached at addresses of pods, which no certificate names; the name that every certificate of the release carries is
checked in their place.
*/}}
{{- define "guildhall.tlsServerName" -}}
{{- .Values.tls.serverName | default (include "guildhall.fullname" .) -}}
{{- end }}

{{- define "guildhall.tlsEnv" -}}
{{- if .Values.tls.enabled }}
- name: GUILDHALL_TLS_SERVER_NAME
  value: {{ include "guildhall.tlsServerName" . }}
{{- end }}
{{- end }}
