package attestor

import (
	"crypto/subtle"
	"io"

	"github.com/perrin-mesh/perrin/mesh/attest"
	"github.com/perrin-mesh/perrin/mesh/attest/tpm"
	"github.com/perrin-mesh/perrin/mesh/wire"
	"github.com/perrin-mesh/perrin/workload"
)

// ask speaks the asking side of the protocol.
func (a *Attestor) ask(s io.ReadWriter, channel []byte, to workload.PeerID, q Question, policy *attest.Policy) (Proof, error) {
	b := attest.Binding{Version: attest.Version, Asker: a.cfg.Self, Node: to, Channel: channel, Job: q.Job, Award: q.Award}
	if _, err := io.ReadFull(a.cfg.Rand, b.Nonce[:]); err != nil {
		return Proof{}, err
	}
	if err := writeMessage(s, &wire.AttestMsg{Nonce: b.Nonce, Kind: q.Kind, Job: q.Job, Award: q.Award, Sealing: q.Sealing}); err != nil {
		return Proof{}, err
	}
	var answer wire.AttestAnswer
	if err := readMessage(s, wire.MaxBulk, &answer); err != nil {
		return Proof{}, err
	}
	if answer.Error != nil && answer.Error.Kind != wire.NotFound {
		return Proof{}, wire.FromError(answer.Error)
	}
	if len(answer.Sealing) > 0 {
		b.Sealing = attest.SealingKey(answer.Sealing)
	}
	p := Proof{Binding: b, Evidence: answer.Evidence, Sealing: answer.Sealing, Abilities: answer.Abilities, SameRules: answer.Policy == PolicyDigest(a.cfg.Policy)}
	x := &attest.Expect{Binding: &b, Policy: policy, Now: a.cfg.Now(), Activated: a.activated}
	p.Appraisal = a.appraise(s, &answer, x)
	return p, nil
}

// appraise judges an answer; where a TPM's keys are new it has them activated first.
func (a *Attestor) appraise(s io.ReadWriter, answer *wire.AttestAnswer, x *attest.Expect) *workload.Appraisal {
	if answer.Evidence == nil {
		return a.nothing(answer, x)
	}
	e, err := attest.Decode(answer.Evidence)
	if err != nil {
		f := attest.Begin(&attest.Evidence{Kind: workload.LevelNone}, x)
		f.Evidence = workload.DigestOf(answer.Evidence)
		f.Fail("%v", err)
		return f.End()
	}
	var refused error
	if e.Kind == workload.LevelTPM {
		refused = a.challenge(s, e)
	}
	found := a.cfg.Appraise(e, x)
	if refused != nil && len(found.Fails) < 16 {
		found.Fails = append(found.Fails, workload.Cut("activation: "+refused.Error(), 300))
	}
	return found
}

// nothing is the appraisal of a node that has no evidence.
func (a *Attestor) nothing(answer *wire.AttestAnswer, x *attest.Expect) *workload.Appraisal {
	out := &workload.Appraisal{
		Node: x.Binding.Node, By: x.Binding.Asker, Kind: workload.LevelNone, Level: workload.LevelNone, Status: workload.TierNone,
		Binding: x.Binding.Digest(), At: x.Now.UnixMilli(), Channel: len(x.Binding.Channel) > 0,
	}
	if answer.Error != nil {
		out.Notes = append(out.Notes, workload.Cut(answer.Error.Detail, 300))
	}
	return out
}

// challenge has the chip open a credential, once for each pair of keys.
func (a *Attestor) challenge(s io.ReadWriter, e *attest.Evidence) error {
	pair, err := tpm.Pair(e)
	if err != nil || a.activated(pair) {
		return nil // what is wrong with the keys the appraisal says
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(a.cfg.Rand, secret); err != nil {
		return err
	}
	credential, encrypted, err := tpm.Challenge(a.cfg.Rand, e, secret)
	if err != nil {
		return err
	}
	if err := writeMessage(s, &wire.ActivateMsg{Credential: credential, Encrypted: encrypted}); err != nil {
		return err
	}
	var opened wire.ActivateAnswer
	if err := readMessage(s, wire.MaxSmall, &opened); err != nil {
		return err
	}
	if opened.Error != nil {
		return wire.FromError(opened.Error)
	}
	if subtle.ConstantTimeCompare(opened.Secret, secret) != 1 {
		return wire.Errorf(wire.Refused, "the chip opened something else")
	}
	a.rememberPair(pair)
	return nil
}
