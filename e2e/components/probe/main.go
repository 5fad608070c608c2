// Command probe runs in a pod, and sends or answers requests there.
//
//	probe resolve NAME   print the addresses of a name, one on each line
//	probe get URL        print what the URL answers; https with the token of the pod's service account
//	probe serve ADDRESS  answer all requests with the pod's name
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	account = "/var/run/secrets/kubernetes.io/serviceaccount"
	timeout = 10 * time.Second
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: probe resolve NAME | probe get URL | probe serve ADDRESS")
	}
	run, known := map[string]func(string) error{"resolve": resolve, "get": get, "serve": serve}[os.Args[1]]
	if !known {
		log.Fatalf("probe: %s: no such command", os.Args[1])
	}
	if err := run(os.Args[2]); err != nil {
		log.Fatalf("probe: %v", err)
	}
}

func resolve(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err == nil {
		fmt.Println(strings.Join(addresses, "\n"))
	}
	return err
}

func get(url string) error {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: timeout}
	if request.URL.Scheme == "https" {
		if err := identify(client, request); err != nil {
			return err
		}
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(os.Stdout, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// identify adds the token of the pod to the request, and its CA to the client.
func identify(client *http.Client, request *http.Request) error {
	token, err := os.ReadFile(filepath.Join(account, "token"))
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(filepath.Join(account, "ca.crt"))
	if err != nil {
		return err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	request.Header.Set("Authorization", "Bearer "+string(token))
	client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	return nil
}

func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	return http.ListenAndServe(address, http.HandlerFunc(
		func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprint(answer, name) }))
}
