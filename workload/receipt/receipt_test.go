package receipt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/perrin-mesh/perrin/workload"
)

// TestPAE holds the encoding to the example of the DSSE specification.
func TestPAE(t *testing.T) {
	got := PAE("http://example.com/HelloWorld", []byte("hello world"))
	if want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestMerkleRoot holds the tree to the vectors that implementations of RFC 6962
// share (certificate-transparency, merkletree tests).
func TestMerkleRoot(t *testing.T) {
	leaves := []string{"", "\x00", "\x10", "\x20\x21", "\x30\x31", "\x40\x41\x42\x43", "\x50\x51\x52\x53\x54\x55\x56\x57",
		"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"}
	want := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var hashed []workload.Digest
	for n := range want {
		if n > 0 {
			hashed = append(hashed, leafOf([]byte(leaves[n-1])))
		}
		if got := rootOf(hashed).Hex(); got != want[n] {
			t.Errorf("%d leaves: %s, want %s", n, got, want[n])
		}
	}
}

// TestOutsideToolsReadIt reads a receipt with nothing but JSON and base64, as a
// tool that knows DSSE and in-toto does.
func TestOutsideToolsReadIt(t *testing.T) {
	raw := seed(t)
	var envelope struct {
		PayloadType, Payload string
		Signatures           []struct{ KeyID, Sig string }
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(envelope.Payload)
	if err != nil || envelope.PayloadType != "application/vnd.in-toto+json" || len(envelope.Signatures) != 3 {
		t.Fatalf("%v, %+v", err, envelope)
	}
	var statement struct {
		Type          string `json:"_type"`
		PredicateType string
		Subject       []struct {
			Name   string
			Digest map[string]string
		}
	}
	if err := json.Unmarshal(payload, &statement); err != nil {
		t.Fatal(err)
	}
	if statement.Type != "https://in-toto.io/Statement/v1" || statement.PredicateType != PredicateType {
		t.Errorf("%+v", statement)
	}
	stdout := workload.DigestOf([]byte("two")).Hex() // `cat 2` is task 1
	for _, s := range statement.Subject {
		if s.Name == "task/1/1/stdout" && s.Digest["sha256"] == stdout {
			return
		}
	}
	t.Errorf("no subject is the output of task 1: %+v", statement.Subject)
}

func TestDecodeRefusesWhatItDidNotWrite(t *testing.T) {
	raw := string(seed(t))
	compact := new(bytes.Buffer)
	if err := json.Compact(compact, []byte(raw)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Decode(compact.Bytes()); err != nil {
		t.Errorf("without white space: %v", err)
	}
	for name, bad := range map[string]string{
		"nothing":         "",
		"cut":             raw[:len(raw)/2],
		"more":            raw + "{}",
		"a field doubled": strings.Replace(raw, `"payloadType"`, `"payloadType":"x","payloadType"`, 1),
		"a field unknown": strings.Replace(raw, `"payloadType"`, `"more":1,"payloadType"`, 1),
		"another type":    strings.Replace(raw, "vnd.in-toto", "vnd.out-toto", 1),
		"another case":    strings.Replace(raw, `"payload"`, `"PAYLOAD"`, 1),
		"a list as null":  strings.Replace(raw, `"signatures": [`, `"signatures": null, "x": [`, 1),
	} {
		if _, _, err := Decode([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func seed(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/receipt.json")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func FuzzDecode(f *testing.F) {
	f.Add(seed(f))
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":null,"certificates":null,"segments":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, _, err := Decode(raw)
		if err != nil {
			return
		}
		again, _, err := Decode(r.Encode())
		if err != nil || !bytes.Equal(again.Payload, r.Payload) {
			t.Errorf("what was read is not read again: %v", err)
		}
	})
}

// BenchmarkRootOf is what signing results one by one costs the worker, and again
// the leader, for each task; reported per result.
func BenchmarkRootOf(b *testing.B) {
	segment := workload.Segment{Results: make([]workload.TaskResult, 100)}
	for i := range segment.Results {
		segment.Results[i] = workload.TaskResult{
			Index: uint32(i), Attempt: 1, Exit: workload.Exited, Wall: "namespaces", Started: 1_790_000_000_000,
			Usage: workload.Usage{WallMs: 12, CPUMs: 3, PeakMem: 1 << 20}, Stdout: workload.Stream{Data: []byte("line\n")},
		}
	}
	for b.Loop() {
		RootOf(ResultsOf(&segment))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(segment.Results)), "ns/result")
}
