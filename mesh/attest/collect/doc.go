// Package collect makes evidence on the machine that it runs on, from the
// kernel's devices: a TPM at /dev/tpmrm0, and in a confidential virtual machine the
// kernel's folder of reports (configfs-tsm) or /dev/sev-guest. What makers publish
// to go with it is kept in a folder, and travels along. It decides nothing: what evidence is worth, the side that
// asked for it finds out.
package collect
