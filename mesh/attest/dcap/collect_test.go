package dcap_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/attest/dcap"
	"github.com/perrin-mesh/perrin/workload"
)

// intelServer answers as Intel's does, and notes what it is asked.
func intelServer(t *testing.T, m *machine, asked *[]string) *collect.Collateral {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.String())
		chain := url.PathEscape(string(m.items[dcap.SignerItem]))
		for path, item := range map[string]string{"/certification/v4/tcb": dcap.TCBItem, "/certification/v4/qe/identity": dcap.IdentityItem, "/certification/v4/pckcrl": dcap.ListItem, "/IntelSGXRootCA.der": dcap.RootListItem} {
			if strings.HasSuffix(r.URL.Path, path) {
				w.Header().Set("TCB-Info-Issuer-Chain", chain)
				_, _ = w.Write(m.items[item])
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	web := collect.Web(server.Client())
	return &collect.Collateral{Dir: filepath.Join(t.TempDir(), "collateral"), Fresh: time.Hour, Now: time.Now, Fetch: func(ctx context.Context, url string) (*collect.Document, error) {
		for _, host := range []string{"https://api.trustedservices.intel.com", "https://certificates.trustedservices.intel.com"} {
			url = strings.Replace(url, host, server.URL, 1)
		}
		return web(ctx, url)
	}}
}

func (m *machine) collected(t *testing.T, f collect.Files) *attest.Evidence {
	t.Helper()
	e, err := collect.New(f).Collect(t.Context(), m.kind(), m.x.Binding)
	if err != nil {
		t.Fatal(err)
	}
	if e, err = attest.Decode(e.Encode()); err != nil { // as it crosses the mesh
		t.Fatal(err)
	}
	return e
}

// TestWholePathTDX goes from the kernel's folder of reports, with documents of the
// maker's server and then of the folder, to an appraisal.
func TestWholePathTDX(t *testing.T) {
	for _, version := range []uint16{4, 5} {
		m := newMachine(t, version)
		tsm := attesttest.NewTSM(t, t.TempDir(), "tdx_guest")
		tsm.Make = func(data [64]byte) ([]byte, []byte, error) {
			return m.QuoteOf(version, data, nil), nil, nil
		}
		var asked []string
		files := collect.Files{Root: t.TempDir(), TSM: tsm, Collateral: intelServer(t, m, &asked)}
		for range 2 {
			wantProof(t, m.verify(m.collected(t, files)), workload.LevelTDX)
		}
		want := []string{"/tdx/certification/v4/tcb?fmspc=50806f000000", "/tdx/certification/v4/qe/identity", "/sgx/certification/v4/pckcrl?ca=platform&encoding=der", "/IntelSGXRootCA.der"}
		if !slices.Equal(asked, want) {
			t.Errorf("asked %q", asked)
		}
		files.Collateral = nil
		wantRefusal(t, m.verify(m.collected(t, files)), "not current") // it goes without, and is told so
		if tsm.Left() != 0 {
			t.Errorf("%d entries are left", tsm.Left())
		}
	}
}

// TestWholePathSGX goes by the files that Gramine gives to an enclave.
func TestWholePathSGX(t *testing.T) {
	m := newMachine(t, 3)
	root := t.TempDir()
	dir := filepath.Join(root, "dev", "attestation")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	data := m.x.Binding.ReportData()
	for name, b := range map[string][]byte{"quote": m.QuoteOf(3, data, nil), "user_report_data": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var asked []string
	files := collect.Files{Root: root, Collateral: intelServer(t, m, &asked)}
	wantProof(t, m.verify(m.collected(t, files)), workload.LevelSGX)
	if got, err := os.ReadFile(filepath.Join(dir, "user_report_data")); err != nil || !slices.Equal(got, data[:]) {
		t.Errorf("the enclave was asked to sign %x, %v", got, err)
	}
	if len(asked) != 4 || asked[0] != "/sgx/certification/v4/tcb?fmspc=50806f000000" {
		t.Errorf("asked %q", asked)
	}
	if err := os.WriteFile(filepath.Join(dir, "quote"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := collect.New(files).Collect(t.Context(), workload.LevelSGX, m.x.Binding); err == nil || !strings.Contains(err.Error(), "at most 65536 bytes") {
		t.Errorf("got %v", err)
	}
}

// TestMissing says what a machine lacks.
func TestMissing(t *testing.T) {
	bare, sgx, tdx := t.TempDir(), t.TempDir(), t.TempDir()
	for root, name := range map[string]string{sgx: "sgx_enclave", tdx: "tdx_guest"} {
		if err := os.MkdirAll(filepath.Join(root, "dev"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "dev", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		files collect.Files
		kind  workload.Level
		says  string
	}{
		{collect.Files{Root: bare}, workload.LevelSGX, "this machine has no Intel SGX"},
		{collect.Files{Root: sgx}, workload.LevelSGX, "does not run inside of an enclave"},
		{collect.Files{Root: bare}, workload.LevelTDX, "this is not an Intel TDX virtual machine"},
		{collect.Files{Root: tdx, TSM: collect.Folder{Root: tdx}}, workload.LevelTDX, "Linux 6.7, CONFIG_TSM_REPORTS"},
		{collect.Files{Root: bare, TSM: attesttest.NewTSM(t, bare, "sev_guest")}, workload.LevelTDX, "this is not an Intel TDX virtual machine"},
	} {
		can := collect.New(c.files).Abilities()
		i := slices.IndexFunc(can, func(a workload.Ability) bool { return a.Kind == c.kind })
		if i < 0 || can[i].Can || !strings.Contains(can[i].Why, c.says) {
			t.Errorf("%s: %+v, want %q", c.kind, can, c.says)
		}
	}
}
