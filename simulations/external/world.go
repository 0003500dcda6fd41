package external

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/perrin-mesh/perrin/simulations/chance"
	"github.com/perrin-mesh/perrin/simulations/model"
	"github.com/perrin-mesh/perrin/simulations/scenario"
)

// World returns the world of a replication, with the process of its policy if it
// has one. The caller calls end when it is done with it.
func World(ctx context.Context, sc *scenario.Scenario, seed chance.Seed) (w *model.World, end func(), err error) {
	if sc.Policy.Name != scenario.Own {
		w, err = model.New(sc, seed)
		return w, func() {}, err
	}
	p, err := Start(ctx, sc, uint64(seed))
	if err != nil {
		return nil, nil, err
	}
	if w, err = model.NewOwn(sc, seed, p); err != nil {
		p.Close()
		return nil, nil, err
	}
	return w, p.Close, nil
}

// maxProgram bounds the bytes of the files that a command names.
const maxProgram = 1 << 30

// Identify fills in what files the policy's command names, as paths from the
// working folder, so that a scenario's hash is another one after a change to them.
// What they import is not part of it.
func Identify(sc *scenario.Scenario) error {
	if sc.Policy.Name != scenario.Own || sc.Policy.Command == "" {
		return nil
	}
	h := sha256.New()
	left := int64(maxProgram)
	for _, word := range strings.Fields(sc.Policy.Command) {
		n, err := hashFile(h, word, left)
		if err != nil {
			return fmt.Errorf("policy %q: %w", sc.Policy.Command, err)
		}
		left -= n
	}
	sc.Policy.Program = hex.EncodeToString(h.Sum(nil))
	return nil
}

// hashFile takes a file into a hash; a word that names none is no error.
func hashFile(h io.Writer, name string, most int64) (int64, error) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return 0, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fmt.Fprintf(h, "%d %s %d\n", len(name), name, info.Size())
	n, err := io.Copy(h, io.LimitReader(f, most+1))
	if n > most {
		return n, fmt.Errorf("%s: its files have more than %d bytes", name, maxProgram)
	}
	return n, err
}
