{{/*
Pod of a process. Takes a dict: root, component, name, values, group?, command, port? (name of the served port), env? (text),
model (whether it reads the checkpoint), part? (flags of `guildhall pull`), preStop? (text), grace (seconds), mounts?, volumes? (text),
configMaps? (further ones whose files go to /etc/guildhall; a whole folder, since a single mounted file would never change),
token (whether it may call the API server).
*/}}
{{- define "guildhall.container" -}}
- name: {{ .component }}
  image: {{ include "guildhall.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [{{ .command }}]
  args: [--config, /etc/guildhall/config.json]
  env:
    {{- include "guildhall.env" . | trim | nindent 4 }}
    {{- include "guildhall.advertiseEnv" (dict "root" .root "port" (include "guildhall.port" (.port | default "admin"))) | nindent 4 }}
    {{- with .env | default "" | trim }}{{ . | nindent 4 }}{{ end }}
  {{- with .values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    {{- if .port }}
    - name: {{ .port }}
      containerPort: {{ include "guildhall.port" .port }}
    {{- end }}
    - name: admin
      containerPort: {{ include "guildhall.port" "admin" }}
  {{- include "guildhall.probes" .values | nindent 2 }}
  {{- with .preStop }}
  lifecycle:
    preStop:
      {{- . | trim | nindent 6 }}
  {{- end }}
  {{- with include "guildhall.resources" . | trim }}{{ . | nindent 2 }}{{ end }}
  securityContext:
    {{- include "guildhall.securityContext" .root | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - name: config
      mountPath: /etc/guildhall
      readOnly: true
    - name: tmp
      mountPath: /tmp
    {{- if .model }}
    {{- with include "guildhall.modelMounts" .root | trim }}{{ . | nindent 4 }}{{ end }}
    {{- end }}
    {{- with include "guildhall.tlsMounts" .root | trim }}{{ . | nindent 4 }}{{ end }}
    {{- with include "guildhall.registryMounts" .root | trim }}{{ . | nindent 4 }}{{ end }}
    {{- with .mounts | default "" | trim }}{{ . | nindent 4 }}{{ end }}
    {{- with .values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "guildhall.podSpec" -}}
serviceAccountName: {{ .serviceAccount }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
{{- with include "guildhall.imagePullSecrets" .root | trim }}{{ . | nindent 0 }}{{ end }}
securityContext:
  {{- include "guildhall.podSecurityContext" .root | nindent 2 }}
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds | default .grace }}
{{- with include "guildhall.scheduling" . | trim }}{{ . | nindent 0 }}{{ end }}
{{- with include "guildhall.resourceClaims" . | trim }}{{ . | nindent 0 }}{{ end }}
{{- $init := include "guildhall.initContainers" . | trim }}
{{- with $init }}
initContainers:
  {{- . | nindent 2 }}
{{- end }}
containers:
  {{- include "guildhall.container" . | nindent 2 }}
  {{- with .values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  - name: config
    projected:
      sources:
        - configMap:
            name: {{ .name }}
        {{- with .configMaps }}
        {{- range . }}
        - configMap:
            name: {{ . }}
        {{- end }}
        {{- end }}
  - name: tmp
    emptyDir:
      sizeLimit: {{ .values.tmpSize }}
  {{- if .model }}
  {{- with include "guildhall.modelVolumes" .root | trim }}{{ . | nindent 2 }}{{ end }}
  {{- end }}
  {{- with include "guildhall.tlsVolumes" .root | trim }}{{ . | nindent 2 }}{{ end }}
  {{- with include "guildhall.registryVolumes" .root | trim }}{{ . | nindent 2 }}{{ end }}
  {{- with .volumes | default "" | trim }}{{ . | nindent 2 }}{{ end }}
  {{- with .values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "guildhall.initContainers" -}}
{{- if .model }}
{{- include "guildhall.pullContainer" . }}
{{- end }}
{{- with .values.extraInitContainers }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* ConfigMap and Deployment of a process. Takes what guildhall.podSpec takes. */}}
{{- define "guildhall.deployment" -}}
{{- $config := include "guildhall.config" . -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "guildhall.metadata" . | nindent 2 }}
data:
  config.json: |
    {{- $config | nindent 4 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "guildhall.metadata" . | nindent 2 }}
spec:
  {{- with include "guildhall.replicas" . }}
  {{- . | nindent 2 }}
  {{- end }}
  revisionHistoryLimit: 5
  minReadySeconds: {{ .values.minReadySeconds }}
  progressDeadlineSeconds: {{ .values.progressDeadlineSeconds }}
  strategy:
    {{- include "guildhall.strategy" . | trim | nindent 4 }}
  selector:
    matchLabels:
      {{- include "guildhall.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      # The chart's version is not among them: a new one must not restart pods that stay as they are.
      labels:
        {{- include "guildhall.selectorLabels" . | nindent 8 }}
        {{- with .root.Values.commonLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        guildhall.dev/generation: {{ include "guildhall.generation" .root | quote }}
        guildhall.dev/metrics: 'true'
        {{- with .values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ sha256sum $config }}
        {{- with .values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "guildhall.podSpec" . | nindent 6 }}
{{- end }}
