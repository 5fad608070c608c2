module kubernetes-image-puller/e2e/probe

go 1.24.0
