"""What people read of a run: `report.html` and the model card `README.md`, both rendered from one dictionary of facts.

facts.py      gathers everything that a run's folder says into one dictionary (the document of `zoo report --json`)
pictures.py   what needs the model and the data at hand: thumbnails, activation maps, changes of the weights
card.py       facts -> README.md, with Hugging Face's front matter
page.py       facts and pictures -> report.html, by the templates beside it
charts.py     numbers -> coordinates for the SVG that the templates draw
write.py      all of it, without ever ending a run
"""
