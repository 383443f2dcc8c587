{{/* What the controller has to know of Kubernetes. */}}
{{- define "guildhall.controllerEnv" -}}
- name: GUILDHALL_KUBERNETES
  value: "on"
- name: GUILDHALL_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: GUILDHALL_RELEASE
  value: {{ .Release.Name }}
- name: GUILDHALL_LEASE_NAME
  value: {{ include "guildhall.objectName" (list . "controller") }}
{{- if ne .Values.autoscaler.mode "off" }}
- name: GUILDHALL_AUTOSCALER_POLICY
  value: /etc/guildhall/autoscaler.json
{{- end }}
{{- end }}
