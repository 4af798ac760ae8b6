"""groupwise: from line items to published group estimates. The library behind the flow and the commands; it knows no Prefect."""
