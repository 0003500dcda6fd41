package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/workload"
)

// ErrNone is returned when the machine has no way to make the evidence asked for.
var ErrNone = errors.New("no such evidence")

// Source makes evidence of one kind.
type Source interface {
	Kind() workload.Level
	// Probe returns nil when the machine has what it takes, and otherwise an
	// error for people that says what is missing.
	Probe() error
	// Collect makes evidence for a binding. It may take as long as the hardware
	// does, some seconds for a slow TPM, and is called by one goroutine at a time.
	Collect(ctx context.Context, b *attest.Binding) (*attest.Evidence, error)
}

// Activator opens credentials, as a TPM does.
type Activator interface {
	Activate(credential, encrypted []byte) ([]byte, error)
}

// Files is where the sources find what the kernel says; production uses Host.
type Files struct {
	Root string                             // before each path
	TPM  func() (io.ReadWriteCloser, error) // a connection to the TPM
	TSM  TSM                                // the folder of reports of a confidential machine
	// SEV asks SEVDevice for a report, and what certificates its host gives along.
	SEV func(data [64]byte) (report, certs []byte, err error)
	// Collateral is what goes with evidence of sgx, tdx and snp; nil is none.
	Collateral *Collateral
}

// TPMDevice is the TPM behind the kernel's resource manager.
const TPMDevice = "/dev/tpmrm0"

// Host is this machine.
func Host() Files {
	return Files{
		Root: "/", TPM: func() (io.ReadWriteCloser, error) { return os.OpenFile(TPMDevice, os.O_RDWR, 0) },
		TSM: Folder{Root: "/"}, SEV: sevGuest("/"),
	}
}

// With adds what goes with evidence.
func (f Files) With(c *Collateral) Files {
	f.Collateral = c
	return f
}

// Machine makes every kind of evidence that its hardware allows. Its methods may
// be called from any goroutine.
type Machine struct {
	sources []Source
	can     []workload.Ability
	turn    chan struct{} // one collection at a time
}

// New looks once at what there is.
func New(f Files) *Machine {
	return Of(NewTPM(f), NewSGX(f), NewTDX(f), NewSNP(f))
}

// Of makes a machine of the sources given.
func Of(sources ...Source) *Machine {
	m := &Machine{sources: sources, turn: make(chan struct{}, 1)}
	for _, s := range sources {
		a := workload.Ability{Kind: s.Kind(), Can: true}
		if err := s.Probe(); err != nil {
			a.Can, a.Why = false, workload.Cut(err.Error(), 300)
		}
		m.can = append(m.can, a)
	}
	return m
}

// Abilities lists every kind that there is, the lowest level first.
func (m *Machine) Abilities() []workload.Ability { return slices.Clone(m.can) }

// Kinds lists the kinds of evidence that the machine can make.
func (m *Machine) Kinds() []string {
	var out []string
	for _, a := range m.can {
		if a.Can {
			out = append(out, string(a.Kind))
		}
	}
	return out
}

// find returns the source of a kind, or where the machine has none of it, the
// highest that is worth at least as much; of no kind, the highest there is.
func (m *Machine) find(kind workload.Level) (Source, error) {
	why := fmt.Sprintf("this version makes no evidence of kind %.10q", kind)
	for i, a := range slices.Backward(m.can) {
		switch {
		case kind != "" && kind != a.Kind:
		case a.Can:
			return m.sources[i], nil
		default:
			why = a.Why
		}
	}
	for i, a := range slices.Backward(m.can) {
		if kind == workload.LevelTPM && a.Can && a.Kind.Meets(kind) {
			return m.sources[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNone, why)
}

func (m *Machine) enter(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Collect makes evidence of a kind, or with none the best there is. A machine
// without a TPM shows for it what is worth more.
func (m *Machine) Collect(ctx context.Context, kind workload.Level, b *attest.Binding) (*attest.Evidence, error) {
	s, err := m.find(kind)
	if err != nil {
		return nil, err
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-m.turn }()
	return s.Collect(ctx, b)
}

// Activate opens a credential with the machine's TPM.
func (m *Machine) Activate(ctx context.Context, credential, encrypted []byte) ([]byte, error) {
	s, err := m.find(workload.LevelTPM)
	if err != nil {
		return nil, err
	}
	a, ok := s.(Activator) // what stands in for a TPM is none
	if !ok {
		return nil, ErrNone
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-m.turn }()
	return a.Activate(credential, encrypted)
}
