package snp_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
	"github.com/perrin-mesh/perrin/mesh/attest/snp"
	"github.com/perrin-mesh/perrin/workload"
)

// table is what a host gives along: names, offsets and lengths, and what they name.
func table(entries map[string][]byte) []byte {
	head, body := []byte{}, []byte{}
	at := 24 * (len(entries) + 1)
	for _, guid := range slices.Sorted(func(yield func(string) bool) {
		for k := range entries {
			if !yield(k) {
				return
			}
		}
	}) {
		raw, _ := hex.DecodeString(strings.ReplaceAll(guid, "-", ""))
		head = binary.LittleEndian.AppendUint32(append(head, raw...), uint32(at+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(entries[guid])))
		body = append(body, entries[guid]...)
	}
	return slices.Concat(head, make([]byte, 24), body)
}

const (
	vcekGUID = "63da758d-e664-4564-adc5-f4b93be8accd"
	vlekGUID = "a8074bc2-a25a-483e-aae6-39c045a0b8a1"
	listGUID = "92f81bc3-5811-4d3d-97ff-d19f88dc67ea"
)

// collected has a machine make evidence, as it crosses the mesh.
func collected(t *testing.T, m *machine, f collect.Files) *attest.Evidence {
	t.Helper()
	e, err := collect.New(f).Collect(t.Context(), workload.LevelSNP, m.x.Binding)
	if err != nil {
		t.Fatal(err)
	}
	if e, err = attest.Decode(e.Encode()); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestWholePath goes from the kernel's folder of reports, or its device, over the
// envelope to an appraisal.
func TestWholePath(t *testing.T) {
	for _, cloud := range []bool{false, true} {
		m := newMachine(t, "Milan", cloud)
		guid := map[bool]string{false: vcekGUID, true: vlekGUID}[cloud]
		given := table(map[string][]byte{guid: m.Cert.Raw, listGUID: m.list})
		answer := func(data [64]byte) ([]byte, []byte, error) { return m.Report(data, nil), given, nil }
		tsm := attesttest.NewTSM(t, t.TempDir(), "sev_guest")
		tsm.Make = answer
		wantProof(t, m.verify(collected(t, m, collect.Files{TSM: tsm})))
		if e, err := collect.New(collect.Files{TSM: tsm}).Collect(t.Context(), workload.LevelTPM, m.x.Binding); err != nil || e.Kind != workload.LevelSNP {
			t.Errorf("asked for a TPM, which it has not: %v", err) // snp is worth more
		}
		if tsm.Left() != 0 {
			t.Errorf("%d entries are left", tsm.Left())
		}
		wantProof(t, m.verify(collected(t, m, collect.Files{SEV: answer})))
	}
}

// TestMeddled has another process write into our entry: the report is asked for
// again, and at some point given up.
func TestMeddled(t *testing.T) {
	m := newMachine(t, "Milan", false)
	tsm := attesttest.NewTSM(t, t.TempDir(), "sev_guest")
	tsm.Make = func(data [64]byte) ([]byte, []byte, error) {
		return m.Report(data, nil), table(map[string][]byte{vcekGUID: m.Cert.Raw, listGUID: m.list}), nil
	}
	times := 0
	tsm.Meddle = func(entry string) {
		if times++; times == 1 {
			tsm.Bump(entry)
		}
	}
	wantProof(t, m.verify(collected(t, m, collect.Files{TSM: tsm})))
	if times != 2 {
		t.Errorf("%d tries", times)
	}
	tsm.Meddle = tsm.Bump
	if _, err := collect.New(collect.Files{TSM: tsm}).Collect(t.Context(), workload.LevelSNP, m.x.Binding); err == nil || !strings.Contains(err.Error(), "somebody else keeps changing") {
		t.Errorf("got %v", err)
	}
}

// TestFetched has a host that gives nothing along: certificate and list come from
// the maker's server once, and then from the folder; an operator can put them there.
func TestFetched(t *testing.T) {
	m := newMachine(t, "Milan", false)
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		switch {
		case strings.HasPrefix(r.URL.Path, "/vcek/v1/Milan/"+hex.EncodeToString(m.Chip[:])):
			_, _ = w.Write(m.Cert.Raw)
		case r.URL.Path == "/vcek/v1/Milan/crl":
			_, _ = w.Write(m.list)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	clock := now
	c := &collect.Collateral{Dir: filepath.Join(t.TempDir(), "collateral"), Fresh: 12 * time.Hour, Now: func() time.Time { return clock }}
	web := collect.Web(server.Client())
	c.Fetch = func(ctx context.Context, url string) (*collect.Document, error) {
		return web(ctx, strings.Replace(url, "https://kdsintf.amd.com", server.URL, 1))
	}
	files := collect.Files{Collateral: c, SEV: func(data [64]byte) ([]byte, []byte, error) {
		return m.Report(data, func(b []byte) { b[0x188], b[0x189] = 0x19, 1 }), nil, nil
	}}
	wantProof(t, m.verify(collected(t, m, files)))
	if len(asked) != 2 || !strings.HasSuffix(asked[0], "?blSPL=3&teeSPL=0&snpSPL=20&ucodeSPL=209") {
		t.Errorf("asked %q", asked)
	}
	clock = time.Now()
	wantProof(t, m.verify(collected(t, m, files)))
	if len(asked) != 2 {
		t.Errorf("asked again: %q", asked[2:])
	}
	server.Close() // what is old is better than nothing, and is not asked for over and over
	clock = clock.Add(13 * time.Hour)
	wantProof(t, m.verify(collected(t, m, files)))
	c.Fetch = nil
	wantProof(t, m.verify(collected(t, m, files)))
	if err := os.RemoveAll(c.Dir); err != nil {
		t.Fatal(err)
	}
	_, err := collect.New(files).Collect(t.Context(), workload.LevelSNP, m.x.Binding)
	if err == nil || !strings.Contains(err.Error(), "the host gave no certificate of the chip's key along, and there is no "+c.Dir) || !strings.Contains(err.Error(), "https://kdsintf.amd.com/vcek/v1/Milan/") {
		t.Errorf("got %v", err)
	}
}

// TestMissing says what is not there.
func TestMissing(t *testing.T) {
	why := func(f collect.Files) string {
		for _, a := range collect.New(f).Abilities() {
			if a.Kind == workload.LevelSNP {
				return a.Why
			}
		}
		return "no snp"
	}
	for says, f := range map[string]collect.Files{
		"this is not an AMD SEV-SNP virtual machine, or its kernel lacks": {TSM: collect.Folder{Root: t.TempDir()}, SEV: func([64]byte) ([]byte, []byte, error) { return nil, nil, fs.ErrNotExist }},
		"may not open /dev/sev-guest; run the daemon as root":             {SEV: func([64]byte) ([]byte, []byte, error) { return nil, nil, fs.ErrPermission }},
		"/dev/sev-guest: broken":                                          {SEV: func([64]byte) ([]byte, []byte, error) { return nil, nil, errors.New("broken") }},
		"no SEV-SNP is configured":                                        {},
		"lacks the module":                                                {TSM: attesttest.NewTSM(t, t.TempDir(), "tdx_guest"), SEV: func([64]byte) ([]byte, []byte, error) { return nil, nil, fs.ErrNotExist }},
		"":                                                                {TSM: attesttest.NewTSM(t, t.TempDir(), "sev_guest")},
	} {
		if got := why(f); !strings.Contains(got, says) || (says == "") != (got == "") {
			t.Errorf("got %q, want %q", got, says)
		}
	}
	b := make([]byte, 1184)
	b[0], b[0x34] = 3, 1
	if _, err := snp.Describe(b); err == nil || !strings.Contains(err.Error(), "MASK_CHIP_ID") {
		t.Errorf("got %v", err)
	}
}
