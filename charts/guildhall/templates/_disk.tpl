{{/*
A folder of a pod's own: it goes with the pod, and is found again when only the process restarts. Takes (dict name size
storageClassName).
*/}}
{{- define "guildhall.ownDisk" -}}
- name: {{ .name }}
{{- if .storageClassName }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .storageClassName }}
        resources:
          requests:
            storage: {{ .size }}
{{- else }}
  emptyDir:
    sizeLimit: {{ .size }}
{{- end }}
{{- end }}
