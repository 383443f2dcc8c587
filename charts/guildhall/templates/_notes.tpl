{{/* Name under which the model is served. */}}
{{- define "guildhall.servedName" -}}
{{- $model := include "guildhall.model" . | fromJson -}}
{{- if .Values.model.names -}}
{{- first .Values.model.names -}}
{{- else if eq $model.kind "bundled" -}}
tiny
{{- else -}}
{{- regexReplaceAll "@.*$" $model.ref "" -}}
{{- end -}}
{{- end }}

{{/* What whoever installs it should know. */}}
{{- define "guildhall.warnings" -}}
{{- $model := include "guildhall.model" . | fromJson -}}
{{- if eq .Values.auth.mode "none" }}
WARNING: auth.mode is none: whoever reaches the gateway may use it.
{{- end }}
{{- if ne .Values.gpu.mode "none" }}
WARNING: this version computes on CPUs. Pods get the GPUs that they ask for, and do not use them.
{{- end }}
{{- if hasSuffix (repeat 40 "0") $model.ref }}
WARNING: model.source names the commit of a profile's example; put a real one in.
{{- end }}
{{- if eq $model.kind "hostPath" }}
WARNING: host paths are not allowed in namespaces with the Pod Security Standard restricted; a local PersistentVolume with pvc:// is.
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
WARNING: networkPolicy.enabled is false: every pod of the cluster reaches routers, workers and Redis, which only tokens protect then.
{{- end }}
{{- if and .Values.batch.enabled (eq .Values.registry.mode "bundled") (not .Values.registry.bundled.persistence.enabled) }}
WARNING: batches are known to Redis alone, and the bundled Valkey keeps nothing when its pod goes: set registry.bundled.persistence.enabled.
{{- end }}
{{- if and (eq .Values.registry.mode "bundled") (gt (int .Values.gateway.replicas) 1) }}
The bundled Valkey is one pod. While it is away, what runs goes on and nothing is decided anew; registry.mode: external takes a replicated one.
{{- end }}
{{- end }}
