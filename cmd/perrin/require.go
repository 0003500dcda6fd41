package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/perrin-mesh/perrin/workload"
)

// requireFlag is what run and map are told that a node has to prove.
type requireFlag struct {
	level        string
	measurements []string
	age          time.Duration
}

func (r *requireFlag) register(f *pflag.FlagSet) {
	f.StringVar(&r.level, "require", "", "what a node must prove of its machine before it may run it: tpm, sgx, tdx or snp")
	f.StringArrayVar(&r.measurements, "measurement", nil, "NAME=HEX that it must show, such as pcr7=…; of one name any will do; with --require")
	f.DurationVar(&r.age, "evidence-age", workload.DefaultEvidenceAge, "how old its evidence may be; 0 is fresh for each award; with --require")
}

// fill puts into a spec what the flags say.
func (r *requireFlag) fill(spec *workload.Spec) (err error) {
	if r.level == "" && r.age != workload.DefaultEvidenceAge {
		return usagef("add --require tpm, or leave --evidence-age out", "--evidence-age: nothing is required")
	}
	spec.Require, err = requireOf(r.level, r.measurements, r.age)
	return err
}
