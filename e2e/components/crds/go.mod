// Where the schemas are of the kinds that the chart makes and that neither Kubernetes nor Knative has.
module kubernetes-image-puller/e2e/crds

go 1.24.0

require (
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.4.0
)
