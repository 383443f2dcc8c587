{{/* Groups of expert workers with the defaults under their own values, as a JSON list. */}}
{{- define "guildhall.groups" -}}
{{- $defaults := include "guildhall.workload" (list . .Values.experts.defaults) | fromJson -}}
{{- $groups := list -}}
{{- range .Values.expertGroups -}}
{{- $group := mergeOverwrite (deepCopy $defaults) (deepCopy .) -}}
{{- $groups = append $groups $group -}}
{{- end -}}
{{- toJson $groups -}}
{{- end }}

{{- define "guildhall.groupName" -}}
{{- include "guildhall.objectName" (list (index . 0) (printf "expert-%s" (index . 1))) -}}
{{- end }}

{{/* Failure domain of a worker: copies of an expert go to different ones. */}}
{{- define "guildhall.expertEnv" -}}
- name: GUILDHALL_GROUP
  value: {{ .values.name }}
{{- if eq .values.failureDomain "node" }}
- name: GUILDHALL_FAILURE_DOMAIN
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- else if eq .values.failureDomain "zone" }}
- name: GUILDHALL_FAILURE_DOMAIN
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['topology.kubernetes.io/zone']
{{- end }}
{{ include "guildhall.threadsEnv" . | trim }}
{{- end }}
