package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/dcap"
	"github.com/perrin-mesh/perrin/workload"
)

// Where a machine shows that it could make quotes, and where it does.
const (
	tdxDevice    = "/dev/tdx_guest"
	sgxDevice    = "/dev/sgx_enclave"
	sgxQuoting   = "/dev/attestation" // Gramine gives it to what runs in an enclave
	sgxQuoteFile = "quote"
	sgxDataFile  = "user_report_data"
)

// TDX makes quotes of the TDX virtual machine that it runs in. Its host signs
// them, in a quote generation service that the kernel asks.
type TDX struct{ files Files }

// NewTDX returns the source of a machine.
func NewTDX(f Files) *TDX { return &TDX{files: f} }

// Kind implements Source.
func (s *TDX) Kind() workload.Level { return workload.LevelTDX }

// Probe implements Source.
func (s *TDX) Probe() error {
	by, err := "", errNoTSM
	if s.files.TSM != nil {
		by, err = provider(s.files.TSM)
	}
	switch {
	case err == nil && by == "tdx_guest":
		return nil
	case err != nil && !errors.Is(err, errNoTSM):
		return fmt.Errorf("whether this is a TDX machine is not known: %w", err)
	case s.files.has(tdxDevice):
		return fmt.Errorf("this is an Intel TDX virtual machine, but its kernel has no %s (Linux 6.7, CONFIG_TSM_REPORTS): %s alone makes reports that nobody has signed", TSMFolder, tdxDevice)
	}
	return fmt.Errorf("this is not an Intel TDX virtual machine (neither %s nor %s is there)", TSMFolder, tdxDevice)
}

// Collect implements Source.
func (s *TDX) Collect(ctx context.Context, b *attest.Binding) (*attest.Evidence, error) {
	if s.files.TSM == nil {
		return nil, errNoTSM
	}
	quote, _, err := tsmReport(s.files.TSM, b.ReportData())
	if err != nil {
		return nil, fmt.Errorf("TDX quote (does its host run a quote generation service?): %w", err)
	}
	return s.files.intel(ctx, workload.LevelTDX, quote)
}

// SGX makes quotes of the enclave that this process runs in, by Gramine's
// quoting service. That has one place for what to sign: one is asked for at a time.
type SGX struct {
	files Files
	mu    sync.Mutex
}

// NewSGX returns the source of a machine.
func NewSGX(f Files) *SGX { return &SGX{files: f} }

// Kind implements Source.
func (s *SGX) Kind() workload.Level { return workload.LevelSGX }

// Probe implements Source.
func (s *SGX) Probe() error {
	switch {
	case s.files.has(filepath.Join(sgxQuoting, sgxQuoteFile)):
		return nil
	case s.files.has(sgxDevice):
		return fmt.Errorf("this machine has Intel SGX, but this daemon does not run inside of an enclave: without a quoting service (%s, as Gramine has it) it can show none", sgxQuoting)
	}
	return fmt.Errorf("this machine has no Intel SGX, or it is switched off in the firmware's settings (%s does not exist)", sgxDevice)
}

// Collect implements Source.
func (s *SGX) Collect(ctx context.Context, b *attest.Binding) (*attest.Evidence, error) {
	quote, err := s.quote(b.ReportData())
	if err != nil {
		return nil, err
	}
	return s.files.intel(ctx, workload.LevelSGX, quote)
}

func (s *SGX) quote(data [64]byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := os.OpenFile(s.files.path(sgxQuoting, sgxDataFile), os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("SGX quote: %w", err)
	}
	_, err = out.Write(data[:])
	if err = errors.Join(err, out.Close()); err != nil {
		return nil, fmt.Errorf("SGX quote: %w", err)
	}
	in, err := os.Open(s.files.path(sgxQuoting, sgxQuoteFile))
	if err != nil {
		return nil, fmt.Errorf("SGX quote: %w", err)
	}
	defer in.Close()
	quote, err := io.ReadAll(io.LimitReader(in, maxReport+1))
	if err != nil || len(quote) > maxReport {
		return nil, fmt.Errorf("SGX quote of %d bytes: %w", len(quote), errors.Join(err, errTooLong))
	}
	return quote, nil
}

var errTooLong = fmt.Errorf("at most %d bytes are taken", maxReport)

// intel adds to a quote what belongs to it. What is nowhere to be had is left
// out: who appraises says so.
func (f Files) intel(ctx context.Context, kind workload.Level, quote []byte) (*attest.Evidence, error) {
	e := &attest.Evidence{Version: attest.Version, Kind: kind, Report: quote}
	list, err := dcap.Documents(quote)
	if err != nil {
		return nil, fmt.Errorf("%s quote: %w", kind, err)
	}
	for _, d := range list {
		got := f.Collateral.get(ctx, d.File, d.URL)
		if got == nil {
			continue
		}
		e.Extra = append(e.Extra, attest.Item{Name: d.Item, Data: got.Body})
		if d.Item == dcap.TCBItem && got.Chain != "" {
			e.Extra = append(e.Extra, attest.Item{Name: dcap.SignerItem, Data: []byte(got.Chain)})
		}
	}
	return e, nil
}

func (f Files) path(parts ...string) string {
	return filepath.Join(append([]string{f.Root}, parts...)...)
}

// has reports whether there is a file, also one that this user may not open.
func (f Files) has(path string) bool {
	_, err := os.Stat(f.path(path))
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}
