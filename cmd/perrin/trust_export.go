package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/perrin-mesh/perrin/mesh/admission"
	"github.com/perrin-mesh/perrin/node/notary"
)

func (a *app) trustExportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export", Short: "Write who the operators are and who is denied, for perrin verify",
		Long: `Write what the root and the operators of the mesh have said, as this node knows it:
who the operators are, who is none any more and from when on, and who is denied.
Each statement is signed, and this node signs the date, so that ` + "`perrin verify --trust FILE`" + `
and ` + "`perrin audit --trust FILE`" + ` judge certificates by it without a mesh. What was lifted or ran out long ago is not in it.`,
		Example: examples("perrin trust export > trust.json", "perrin verify r.json --trust trust.json --voters 12D3KooW…"),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withBackend(func(b *backend) error {
				t, err := b.Trust(cmd.Context())
				if err != nil {
					return err
				}
				if len(t.Said) == 0 {
					return failf("ask again in a moment, or on an operator's node", "this node has not heard from the root who the operators are")
				}
				_, err = a.stdout.Write(t.Said)
				return err
			})
		},
	}
}

// readTrust reads a trust file; without a name there is none.
func readTrust(name string) (*admission.Past, error) {
	if name == "" {
		return nil, nil
	}
	const hint = "`perrin trust export > trust.json` writes one"
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef(hint, "--trust: %s: %w", name, plain(err))
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, notary.MaxTrust+1))
	if err != nil {
		return nil, failf("", "--trust: %s: %w", name, plain(err))
	}
	past, err := notary.ReadTrust(raw)
	if errors.Is(err, notary.ErrTrust) {
		return nil, usagef(hint, "--trust: %s: %w", name, err)
	}
	return past, err
}
