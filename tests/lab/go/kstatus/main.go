// Command kstatus tells what Flux, kubectl-side tools and kpt think of Kubernetes objects: it reads one object's JSON a
// line on stdin and answers each with one line {"status", "message"} or {"error"}, by the library that they share.
package main

import (
	"bufio"
	"encoding/json"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func verdict(line []byte) map[string]string {
	object := &unstructured.Unstructured{}
	// Unlike encoding/json this keeps whole numbers as int64, which the library's field readers insist on.
	if err := object.UnmarshalJSON(line); err != nil {
		return map[string]string{"error": err.Error()}
	}
	result, err := status.Compute(object)
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return map[string]string{"status": string(result.Status), "message": result.Message}
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	answers := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		if err := answers.Encode(verdict(line)); err != nil {
			os.Exit(1)
		}
	}
}
