{{/*
How a Deployment replaces its pods. Takes (dict root component name values). A model change brings a generation up beside the old
one, whole: half a generation serves nothing, since its routers need every expert.
*/}}
{{- define "guildhall.strategy" -}}
{{- $mode := "rolling" -}}
{{- /* A volume for one pod cannot be mounted by its successor meanwhile. */ -}}
{{- if and (eq .component "batch") (ne .values.storage.accessMode "ReadWriteMany") }}{{ $mode = "recreate" }}{{ end -}}
{{- if has .component (list "router" "expert") -}}
{{- $running := include "guildhall.runningGeneration" (list .root .name) -}}
{{- $changed := and $running (ne $running (include "guildhall.generation" .root)) -}}
{{- $asked := .root.Values.model.rollout -}}
{{- if or (eq $asked "sideBySide") (and $changed (eq $asked "auto")) -}}{{- $mode = "sideBySide" -}}
{{- else if and $changed (eq $asked "recreate") -}}{{- $mode = "recreate" -}}{{- end -}}
{{- end -}}
{{- if eq $mode "recreate" }}
type: Recreate
{{- else }}
type: RollingUpdate
rollingUpdate:
  {{- if eq $mode "sideBySide" }}
  {{- if .root.Values.experts.noSpareMachines }}
  {{- fail "the model changes and experts.noSpareMachines says that there is no room for a second generation: set model.rollout to recreate (the model is away while the new one loads), or install the new model as a second release elsewhere" }}
  {{- end }}
  maxSurge: 100%
  maxUnavailable: 0
  {{- else if and (eq .component "expert") .root.Values.experts.noSpareMachines }}
  maxSurge: 0
  maxUnavailable: 1
  {{- else }}
  maxSurge: 1
  maxUnavailable: 0
  {{- end }}
{{- end }}
{{- end }}
