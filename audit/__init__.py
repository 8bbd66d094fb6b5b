"""`bridge audit`: what an adapter's folder gives away of its training data, told before anyone publishes it.

folder, tensors, layout     the folder is hostile: read within bounds
variants                    which of PEFT's methods is analysed, and which is only named
checks/                     one file a kind of finding
verdicts                    which attack applies to this adapter, and which does not
report                      findings and verdicts as data, with a JSON schema
terminal, page, sarif       the report as people and programs read it
protect                     remedies
"""
