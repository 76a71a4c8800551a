"""Several processes that serve one bundle on one port, and the one that watches over them.

    supervisor    starts sets of workers, switches between them, answers admin calls
      zygote      loads a bundle once, alone in its thread, and forks
        worker    serves; shares what was loaded, page by page, with the others

`docs/decisions/013-zygote-and-workers.md` says why.
"""
