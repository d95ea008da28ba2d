"""From what `--model` says to a file that is whole.

spec                     what `--model` says
catalog                  the models that have a name
download                 one that is not here yet, by `wheel_download` or `hub_download`
cache                    where it is kept
"""
