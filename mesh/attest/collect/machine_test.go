package collect_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest"
	"github.com/perrin-mesh/perrin/mesh/attest/attesttest/machine"
	"github.com/perrin-mesh/perrin/mesh/attest/collect"
)

func TestMachine(t *testing.T) {
	b := &bench{t: t, chip: attesttest.NewChip(t), maker: attesttest.NewMaker(t, "Chips of Test"), root: t.TempDir(), known: map[attest.Pair]bool{}, now: time.Now()}
	b.cert = b.maker.Endorse(b.chip, time.Now().AddDate(1, 0, 0))
	b.policy.TPMRoots = append(b.policy.TPMRoots, b.maker.Root)
	m := machine.Boot(t, b.chip, machine.Config{Console: filepath.Join(t.TempDir(), "console")})
	b.machine = collect.Of(m)
	bind := binding()
	e := b.collect(bind)
	os.WriteFile("/tmp/boot-pkgs/evidence.cbor", e.Encode(), 0o600)
	os.WriteFile("/tmp/boot-pkgs/bootlog", e.BootLog, 0o600)
	os.WriteFile("/tmp/boot-pkgs/filelog", e.FileLog, 0o600)
	b.activate(e)
	a := b.appraise(e, bind)
	t.Logf("%+v", a)
	wantProof(t, a)
}
