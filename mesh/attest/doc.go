// Package attest says what evidence of a machine is: the envelope that carries
// it, what it is bound to, and the policy and result of an appraisal. It is
// pure: no clock, no network, no device.
//
// # Path
//
// Whoever asks (an Asker) sends a nonce. The node has its hardware sign report
// data made of a Binding: the nonce, both peers, the connection between them,
// and where there are any, the sealing key, the workload and the award. The
// evidence travels back in an Evidence with everything that is needed to verify
// it offline. appraise picks the verifier of its kind (tpm, dcap, snp)
// and fills in a workload.Appraisal. collect makes evidence on this machine.
//
// # Levels
//
// none < tpm < sgx, tdx, snp. A level is proved when every link from the
// manufacturer's root to the report data holds; what is proved is graded claim
// by claim, as AR4SI has it. docs/threat-model.md says what each level means.
package attest
