{{- define "port.name" -}}
{{- printf "%s" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "port.labels" -}}
app.kubernetes.io/name: port-router
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "port.selector" -}}
app.kubernetes.io/name: port-router
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "port.image" -}}
{{- printf "%s:%s" .image.repository (default .version .image.tag) -}}
{{- end -}}

{{- define "port.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "port.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Variables of every program. */}}
{{- define "port.environment" -}}
- {name: KAFKA_BOOTSTRAP_SERVERS, value: {{ required "kafka.bootstrapServers: set the brokers, host:port" .Values.kafka.bootstrapServers | quote }}}
- {name: PORT_SECURITY_PROTOCOL, value: {{ .Values.kafka.securityProtocol | quote }}}
{{- with .Values.kafka.saslMechanism }}
- {name: PORT_SASL_MECHANISM, value: {{ . | quote }}}
{{- end }}
{{- with .Values.kafka.credentialsSecret }}
- {name: PORT_SASL_USERNAME, valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: username}}}
- {name: PORT_SASL_PASSWORD, valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: password}}}
{{- end }}
{{- if .Values.kafka.caSecret }}
- {name: PORT_SSL_CAFILE, value: /kafka-ca/ca.crt}
{{- end }}
- {name: PORT_CATALOGUE, value: /config/catalogue.yaml}
{{- range $name, $value := .Values.settings }}
- {name: {{ printf "PORT_%s" ($name | upper) | quote }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end -}}

{{- define "port.mounts" -}}
- {name: config, mountPath: /config, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .Values.kafka.caSecret }}
- {name: kafka-ca, mountPath: /kafka-ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "port.volumes" -}}
- name: config
  configMap: {name: {{ include "port.name" . }}-catalogue}
- name: tmp
  emptyDir: {}
{{- with .Values.kafka.caSecret }}
- name: kafka-ca
  secret: {secretName: {{ . | quote }}}
{{- end }}
{{- end -}}

{{- define "port.history" -}}
- {name: PORT_HISTORY, value: {{ .Values.router.history.path | quote }}}
{{- end -}}
