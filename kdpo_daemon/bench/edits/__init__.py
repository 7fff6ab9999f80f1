"""`kdpo bench edits`: the product's editor beside other ways to teach facts, on the same facts.

torch is loaded in `rivals` alone, which is only ever started as a process: one for each rival, so
that the memory of one is not counted as another's.  In order: `records`, `forms`, `offices` and
`draw` read the facts; `general` reads what should not change; `plan` is what the processes are
told; `run` starts them; `report` and `pictures` show what they found.
"""
