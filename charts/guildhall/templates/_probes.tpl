{{/*
Probes of every process, over HTTP on the admin port: Kubernetes' own gRPC probe cannot speak TLS. Liveness asks for nothing but
a live event loop, so that a lost Redis restarts nobody. Takes the workload's values.
*/}}
{{- define "guildhall.probes" -}}
startupProbe:
  httpGet:
    path: /started
    port: admin
  periodSeconds: {{ .probes.startup.periodSeconds }}
  failureThreshold: {{ .probes.startup.failureThreshold }}
  timeoutSeconds: 5
readinessProbe:
  httpGet:
    path: /ready
    port: admin
  periodSeconds: {{ .probes.readiness.periodSeconds }}
  failureThreshold: {{ .probes.readiness.failureThreshold }}
  timeoutSeconds: 5
livenessProbe:
  httpGet:
    path: /health
    port: admin
  periodSeconds: {{ .probes.liveness.periodSeconds }}
  failureThreshold: {{ .probes.liveness.failureThreshold }}
  timeoutSeconds: 5
{{- end }}
