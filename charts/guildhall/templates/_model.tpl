{{/*
Where the checkpoint comes from, out of model.source. JSON: kind (bundled, pvc, hostPath, image, hf, s3), ref, and whether an init
container fetches it.
*/}}
{{- define "guildhall.model" -}}
{{- $source := .Values.model.source -}}
{{- $out := dict -}}
{{- if eq $source "bundled" -}}
{{- $out = dict "kind" "bundled" "ref" "" -}}
{{- else if hasPrefix "pvc://" $source -}}
{{- $out = dict "kind" "pvc" "ref" (trimPrefix "pvc://" $source) -}}
{{- else if hasPrefix "hostpath:///" $source -}}
{{- $out = dict "kind" "hostPath" "ref" (trimPrefix "hostpath://" $source) -}}
{{- else if hasPrefix "image://" $source -}}
{{- $out = dict "kind" "image" "ref" (trimPrefix "image://" $source) -}}
{{- else if hasPrefix "hf://" $source -}}
{{- $out = dict "kind" "hf" "ref" (trimPrefix "hf://" $source) -}}
{{- else if hasPrefix "s3://" $source -}}
{{- $out = dict "kind" "s3" "ref" (trimPrefix "s3://" $source) -}}
{{- else -}}
{{- fail (printf "model.source: %q is not understood; write bundled, pvc://CLAIM, hostpath:///DIRECTORY, image://IMAGE, hf://ORG/NAME@COMMIT or s3://BUCKET/PREFIX" $source) -}}
{{- end -}}
{{- $_ := set $out "pulled" (has $out.kind (list "hf" "s3")) -}}
{{- toJson $out -}}
{{- end }}

{{/* Directory of the checkpoint in containers. */}}
{{- define "guildhall.modelPath" -}}
{{- $model := include "guildhall.model" . | fromJson -}}
{{- if eq $model.kind "bundled" -}}
/app/models/tiny
{{- else if $model.pulled -}}
/models/{{ .Values.model.source | sha256sum | trunc 12 }}
{{- else if .Values.model.path -}}
/models/{{ .Values.model.path }}
{{- else -}}
/models
{{- end -}}
{{- end }}

{{/* Folder where quantised weights are kept for the next start, or off. */}}
{{- define "guildhall.weightsCache" -}}
{{- if eq .Values.model.weightsCache.type "none" -}}off{{- else -}}/var/cache/guildhall{{- end -}}
{{- end }}

{{/* A volume source by type: takes (dict type sizeLimit claimName hostPath). */}}
{{- define "guildhall.folder" -}}
{{- if eq .type "emptyDir" }}
emptyDir:
  {{- if .sizeLimit }}
  sizeLimit: {{ .sizeLimit }}
  {{- else }} {}
  {{- end }}
{{- else if eq .type "pvc" }}
persistentVolumeClaim:
  claimName: {{ .claimName }}
{{- else if eq .type "hostPath" }}
hostPath:
  path: {{ .hostPath }}
  type: DirectoryOrCreate
{{- end }}
{{- end }}

{{- define "guildhall.modelVolumes" -}}
{{- $model := include "guildhall.model" . | fromJson -}}
{{- if ne $model.kind "bundled" }}
- name: model
  {{- if eq $model.kind "pvc" }}
  persistentVolumeClaim:
    claimName: {{ $model.ref }}
    readOnly: true
  {{- else if eq $model.kind "hostPath" }}
  hostPath:
    path: {{ $model.ref }}
    type: Directory
  {{- else if eq $model.kind "image" }}
  image:
    reference: {{ $model.ref | quote }}
    pullPolicy: IfNotPresent
  {{- else }}
  {{- include "guildhall.folder" .Values.model.store | nindent 2 }}
  {{- end }}
{{- end }}
{{- if ne .Values.model.weightsCache.type "none" }}
- name: weights-cache
  {{- include "guildhall.folder" .Values.model.weightsCache | nindent 2 }}
{{- end }}
{{- end }}

{{- define "guildhall.modelMounts" -}}
{{- $model := include "guildhall.model" . | fromJson -}}
{{- if ne $model.kind "bundled" }}
- name: model
  mountPath: /models
  readOnly: true
{{- end }}
{{- if ne .Values.model.weightsCache.type "none" }}
- name: weights-cache
  mountPath: /var/cache/guildhall
{{- end }}
{{- end }}

{{/*
Init container that fetches the part of the checkpoint that one process reads. Takes (dict root part resources), part being flags of
`guildhall pull`. A part that is there already is left alone, so a store that outlives pods makes restarts quick.
*/}}
{{- define "guildhall.pullContainer" -}}
{{- $root := .root -}}
{{- $model := include "guildhall.model" $root | fromJson -}}
{{- if $model.pulled }}
- name: pull
  image: {{ include "guildhall.image" $root }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  command: [guildhall]
  args:
    - pull
    - {{ $root.Values.model.source | quote }}
    - --dir
    - {{ include "guildhall.modelPath" $root }}
    {{- with $root.Values.model.sha256 }}
    - --sha256
    - {{ . | quote }}
    {{- end }}
    {{- with $root.Values.model.pull.endpoint }}
    - --endpoint
    - {{ . | quote }}
    {{- end }}
    {{- range .part }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: HOME
      value: /tmp
    {{- with $root.Values.model.pull.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $root.Values.model.pull.existingSecret }}
  envFrom:
    - secretRef:
        name: {{ . }}
  {{- end }}
  {{- with $root.Values.model.pull.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "guildhall.securityContext" . | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - name: model
      mountPath: /models
    - name: tmp
      mountPath: /tmp
{{- end }}
{{- end }}
