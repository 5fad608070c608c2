//go:build tools

// Package tools names the program that e2e builds, so that go.mod and go.sum pin it.
package tools

import _ "sigs.k8s.io/kustomize/kustomize/v5"
