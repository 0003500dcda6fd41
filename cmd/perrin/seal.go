package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/perrin-mesh/perrin/cmd/perrin/internal/terminal"
	"github.com/perrin-mesh/perrin/node/api"
	"github.com/perrin-mesh/perrin/workload"
	"github.com/perrin-mesh/perrin/workload/seal"
)

// sealFlags are what run and map are told of sealing.
type sealFlags struct {
	on      bool
	helpers string
	secrets []string
}

func (s *sealFlags) register(f *pflag.FlagSet) {
	f.BoolVar(&s.on, "seal", false, "encrypt program, arguments, inputs and outputs: only the machine that runs it and this node can read them")
	f.StringVar(&s.helpers, "seal-helpers", "", "nodes that release the key when this one is off: 2of3, or 2of:NODE,NODE,NODE; with --seal")
	f.StringArrayVar(&s.secrets, "secret", nil, "NAME=FILE, a secret that the program finds as .secrets/NAME in its working directory, in memory alone; with --seal; repeatable")
}

const hintSeal = "add --seal: only sealed work keeps secrets from the other nodes"

// fill puts into a spec what the flags say; who helps is found out later.
func (s *sealFlags) fill(spec *workload.Spec) error {
	if !s.on {
		switch {
		case len(s.secrets) > 0:
			return usagef(hintSeal, "--secret: the work is not sealed")
		case s.helpers != "":
			return usagef("add --seal, or leave --seal-helpers out", "--seal-helpers: the work is not sealed")
		}
		return nil
	}
	if _, err := parseHelpers(s.helpers); err != nil {
		return err
	}
	files, err := pairs("secret", "NAME=FILE", s.secrets)
	if err != nil {
		return err
	}
	if len(files) < len(s.secrets) {
		return usagef("give each secret a name of its own", "--secret: a name is given twice")
	}
	spec.Seal = &workload.Seal{Salt: seal.NewSalt()}
	spec.Secrets, err = readSecrets(files, "")
	return err
}

// readSecrets reads files by the names of the secrets; base is the folder of
// relative ones.
func readSecrets(files map[string]string, base string) ([]workload.Secret, error) {
	var out []workload.Secret
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := files[name]
		if base != "" && !filepath.IsAbs(path) {
			path = filepath.Join(base, path)
		}
		if !workload.SecretName(name) {
			return nil, usagef("a name has letters, digits, _, - and .", "--secret: %.60q cannot be a secret's name", name)
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		data, err := io.ReadAll(io.LimitReader(f, workload.MaxSecretSize+1))
		f.Close()
		if err != nil {
			return nil, unreadable(path, err)
		}
		if len(data) > workload.MaxSecretSize {
			return nil, usagef("seal a large one as an --input", "--secret: %s has more than %s", path, terminal.Size(workload.MaxSecretSize))
		}
		out = append(out, workload.Secret{Name: name, Data: data})
	}
	return out, nil
}

// helpers is a parsed --seal-helpers: need of n, or of the named ones.
type helpers struct {
	need, n int
	names   []string
}

const hintHelpers = "write 2of3 for any three nodes, or 2of:NODE,NODE,NODE"

func parseHelpers(text string) (h helpers, err error) {
	if text == "" {
		return h, nil
	}
	need, rest, ok := strings.Cut(text, "of")
	if h.need, err = strconv.Atoi(need); err != nil || !ok {
		return h, usagef(hintHelpers, "--seal-helpers: %.40q", text)
	}
	if names, named := strings.CutPrefix(rest, ":"); named {
		h.names = strings.Split(names, ",")
		h.n = len(h.names)
	} else if h.n, err = strconv.Atoi(rest); err != nil {
		return h, usagef(hintHelpers, "--seal-helpers: %.40q", text)
	}
	if h.need < 1 || h.n < h.need || h.n > workload.MaxSealHelpers {
		return h, usagef(hintHelpers, "--seal-helpers: %d of %d: want 1 to %d nodes, and no more needed than there are", h.need, h.n, workload.MaxSealHelpers)
	}
	return h, nil
}

// sealing is a backend whose uploads are sealed.
type sealing struct {
	api.Backend
	salt []byte
}

// PutBlob implements api.Backend.
func (s sealing) PutBlob(ctx context.Context, r io.Reader) (workload.Ref, error) {
	return s.PutSealed(ctx, s.salt, r)
}

// sealWith names the helpers in a spec that is to be sealed, tells the user what
// that holds, and returns the backend to upload with.
func (a *app) sealWith(ctx context.Context, b *backend, text string, spec *workload.Spec) (*backend, error) {
	if spec.Seal == nil {
		return b, nil
	}
	h, err := parseHelpers(text)
	if err != nil {
		return nil, err
	}
	who := ""
	if h.need > 0 {
		nodes, err := b.Nodes(ctx, "")
		if err != nil {
			return nil, err
		}
		chosen, err := h.choose(nodes)
		if err != nil {
			return nil, err
		}
		spec.Seal.Need = uint32(h.need)
		for _, n := range chosen {
			spec.Seal.Helpers = append(spec.Seal.Helpers, n.ID)
			who += ", " + n.Name
		}
	}
	a.note("%s", spec.Guarantee())
	if who != "" {
		a.note("%d of %s release the key when this node is off", h.need, strings.TrimPrefix(who, ", "))
	}
	sealed := *b
	sealed.Backend = sealing{b.Backend, spec.Seal.Salt}
	return &sealed, nil
}

// choose picks the helpers: the named ones, or any that are there but this node,
// voters first.
func (h *helpers) choose(nodes []api.Node) ([]api.Node, error) {
	if len(h.names) == 0 {
		return h.any(nodes)
	}
	var out []api.Node
	for _, name := range h.names {
		i := slices.IndexFunc(nodes, func(n api.Node) bool {
			return n.Name == name || len(name) >= 8 && strings.HasPrefix(n.ID.String(), name)
		})
		switch {
		case i < 0:
			return nil, usagef("`perrin nodes` lists them", "--seal-helpers: no node %.60q", name)
		case nodes[i].Self:
			return nil, usagef("name others, for when this one is off", "--seal-helpers: %s is this node", name)
		case slices.ContainsFunc(out, func(n api.Node) bool { return n.ID == nodes[i].ID }):
			return nil, usagef("name each once", "--seal-helpers: %s is named twice", name)
		}
		out = append(out, nodes[i])
	}
	return out, nil
}

func (h *helpers) any(nodes []api.Node) ([]api.Node, error) {
	rank := map[string]int{"leader": 0, "voter": 0, "standby": 1}
	there := slices.DeleteFunc(slices.Clone(nodes), func(n api.Node) bool { return n.Self || !n.Alive })
	slices.SortStableFunc(there, func(x, y api.Node) int {
		rx, knownX := rank[x.Role]
		ry, knownY := rank[y.Role]
		if !knownX {
			rx = 2
		}
		if !knownY {
			ry = 2
		}
		return rx - ry
	})
	if len(there) < h.n {
		return nil, usagef("ask for fewer, or add nodes", "--seal-helpers: %d nodes besides this one are there, %d are wanted", len(there), h.n)
	}
	return there[:h.n], nil
}

// openResult opens what a result of a workload names.
func openResult(ctx context.Context, b api.Backend, id workload.ID, ref workload.Ref) (io.ReadCloser, error) {
	r, err := b.OpenOutput(ctx, id, ref)
	if err != nil {
		return nil, fmt.Errorf("output of %s: %w", id.Short(), err)
	}
	return r, nil
}
